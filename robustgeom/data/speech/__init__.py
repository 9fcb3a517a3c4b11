"""The data set spoken-words: words by a speech synthesiser, in noise."""

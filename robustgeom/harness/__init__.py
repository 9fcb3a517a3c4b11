"""The harness: suites, noise control, judging, checks, records."""

# %% [markdown]
# # Which network is more robust, and by how much?
#
# Two evaluations on the same images, a paired comparison with intervals, and one page that shows it all.

# %%
import robustgeom as rg

options = rg.RunOptions(n=64, eps="8/255", analyze=False)
names = ["fmnist-cnn-standard", "fmnist-cnn-pgd-at"]
records = [rg.evaluate(name, "fashion-mnist", "quick-linf", options=options) for name in names]

# %%
comparison = rg.compare(records, baseline="fmnist-cnn-standard")
for sentence in comparison.sentences:
    print(sentence)
print(comparison.to_pandas()[["model", "radius", "clean", "robust", "difference", "p_value"]])
print(rg.write_report(comparison, "compared/report.html"))

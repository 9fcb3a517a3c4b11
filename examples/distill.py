# %% [markdown]
# # Can a robust teacher's logits make a student robust that never sees an attack?
#
# Knowledge distillation on clean images alone, for one epoch, so that it ends in a minute. Fashion-MNIST's original
# files are needed (Debian: `apt-get install dataset-fashion-mnist`; elsewhere `data_dir="folder"`).

# %%
import robustgeom as rg

student = rg.distill("fmnist-cnn-pgd-at", "fmnist-cnn-standard", method="kd_clean", epochs=1, out="student")

# %%
options = rg.RunOptions(n=200, eps="8/255", analyze=False)
names = ["fmnist-cnn-pgd-at", "fmnist-cnn-standard", f"./{student}"]
records = [rg.evaluate(name, "fashion-mnist", "quick-linf", options=options) for name in names]
for record in records:
    print(f"{record.name}: clean {record.accuracy}, robust {record.robust_accuracy}")

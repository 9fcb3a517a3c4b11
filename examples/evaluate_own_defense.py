# %% [markdown]
# # Is input quantisation a defense?
#
# Rounding pixels to eight levels blocks gradients: PGD finds nothing, and the number looks fine. The checks say
# so; taking gradients from the network behind the rounding (BPDA) shows what is left.

# %%
import torch
from torch import nn

import robustgeom as rg


class Rounded(nn.Module):
    """A zoo network behind eight-level rounding; the variant `straight-through` is the network itself."""

    def __init__(self):
        super().__init__()
        self.net = rg.load_model("fmnist-cnn-standard")
        self.variants = {"straight-through": self.net}

    def forward(self, x):
        return self.net(torch.round(x * 7) / 7)


# %%
quick = rg.load_suite("quick-linf")
adaptive = quick.model_copy(
    update={"attacks": [a.model_copy(update={"source": "straight-through"}) for a in quick.attacks]}
)
options = rg.RunOptions(n=100, eps="8/255", analyze=False)
model = Rounded().eval()
naive = rg.evaluate(model, "fashion-mnist", quick, options=options)
honest = rg.evaluate(model, "fashion-mnist", adaptive, options=options)

# %%
print(f"plain gradients:   {naive.robust_accuracy}; {naive.verdict}")
print(f"through the net:   {honest.robust_accuracy}")

"""Parts that the faces share: how calls are composed to a run, and how its results are met."""

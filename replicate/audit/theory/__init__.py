"""The paper's derivation against the update rule it starts from, by small numerical experiments in float64."""

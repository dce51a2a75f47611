"""The paper's derivation compared with the update rule it starts from, by small numerical experiments in float64."""

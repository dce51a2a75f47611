"""How often the decision rules err: verdict rates on landscapes, simulated or trained, whose truth is known."""

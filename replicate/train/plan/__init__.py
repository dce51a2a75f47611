"""Planning: the runs that training at a scale needs, their cost, and the order in which they are trained."""

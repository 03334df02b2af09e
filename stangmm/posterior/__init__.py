"""The posterior: what was fitted, as a record, and how a model, data and a method become one."""

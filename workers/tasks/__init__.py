"""One module of tasks per capability; a task carries ids only and returns nothing."""

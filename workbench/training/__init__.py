"""Training of the small models that ship with the workbench, and their evaluation.

`recipe` says how large a model is and how long it reads, `vocabulary` makes its tokenizer, `learner` is one step,
`trainer` all of them, `export` writes the Hugging Face folder, and `evaluation` measures what was learned.
"""

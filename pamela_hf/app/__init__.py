"""The app: a person rates pictures, sees what was learned of them, and uses it.

store: answers in SQLite.  pictures: the folder's images, by id, at screen size.  base: the model and the features.
answers, order, learner, lessons: heads fitted beside the requests, and which picture comes next.  taste, kinds,
figures: what is known of a person.  ranking: scores that move with a slider, dropped pictures.  prompting: prompt runs.
study: blind comparisons.  imports, exports: answers from and for elsewhere.  stars: written beside the pictures.
heads: people of a store by name.  assistants: tools over MCP.  security: who may ask for what.  visitors: who is signed
in.  space: settings on a Hub Space.  keeping: answers kept elsewhere, too.  routes/: the JSON endpoints.  door: what is
answered from the start, and what waits for PyTorch and Gradio.  server: all of it.  pages/: HTML, CSS, JS.

May import: everything below; nobody but commands imports it.
"""

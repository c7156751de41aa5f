"""The app: a person rates pictures, sees what was learned of them, and uses it.

store: answers in SQLite.  pictures: the folder's images, by id, at screen size.  base: the model and the features.
order: which picture next.  learner: fits heads beside the requests.  taste: what is said of a person.  ranking:
pictures dropped on the page.  prompting: prompt runs.  study: blind comparisons of their images.  security: who may
ask for what.  routes: the JSON endpoints.  server: all of it as one `gradio.Server`.  pages/: HTML, CSS, JS.

May import: everything below; nobody but commands imports it.
"""

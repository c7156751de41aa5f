def write_report(path, arguments, result, summary):
    path.write_text("todo")

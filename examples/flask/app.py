"""Flask: a page, a form with a file, and an answer that is made piece by piece."""

from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/")
def index():
    return "<form method=post action=/upload enctype=multipart/form-data><input name=title><input type=file name=file><button>Send</button></form>"


@app.post("/upload")
def upload():
    file = request.files["file"]
    return {"title": request.form["title"], "file": file.filename, "size": len(file.read())}


@app.get("/count")
def count():
    def lines():
        for number in range(5):
            yield f"{number}\n"

    return Response(lines(), content_type="text/plain")

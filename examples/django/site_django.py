"""Django in one file: a form with a file. `application` is what Django's wsgi.py would hold."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY=os.environ.get("SECRET_KEY", "only-for-this-example"),
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )


def index(request):
    return HttpResponse(f"Django answers {request.path}\n", content_type="text/plain")


@csrf_exempt
def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"title": request.POST["title"], "file": file.name, "size": file.size})


urlpatterns = [path("", index), path("upload", upload)]
application = get_wsgi_application()

"""stub, replaced in a moment"""
from twisted.web.resource import Resource


class DownloadResource(Resource):
    """stub"""

    def __init__(self, front: object) -> None:
        super().__init__()

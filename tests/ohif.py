"""The prebuilt OHIF viewer served beside our DICOMweb routes, for one test; it is not shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route

from dicom_support import http_serving
from digital_twins import dicom
from foreign import PEERS

DIST = PEERS / "ohif" / "dist"
_ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
_CONFIG = """
window.config = {
  routerBasename: null, extensions: [], modes: [], showStudyList: true,
  investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'node', name: 'node', wadoUriRoot: '/dicom-web/wado', qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web', qidoSupportsIncludeField: true, supportsFuzzyMatching: true,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      supportsWildcard: true,
      omitQuotationForMultipartRequest: false, bulkDataURI: { enabled: true },
    },
  }],
};
"""


@contextmanager
def ohif(store: dicom.DicomStore) -> Iterator[str]:
    """Serve the viewer and the store; yields the root of the viewer."""

    async def config(_request: Request) -> Response:
        return Response(_CONFIG, media_type="application/javascript", headers=_ISOLATED)

    async def page(request: Request) -> Response:
        path = DIST / request.path_params["path"]
        return FileResponse(path if path.is_file() else DIST / "index.html", headers=_ISOLATED)

    routes: list[Any] = [
        Mount("/dicom-web", routes=dicom.dicomweb_routes(store)),
        Route("/app-config.js", config),
        Route("/{path:path}", page),
    ]
    with http_serving(routes, root="/") as base:
        yield base.rstrip("/")

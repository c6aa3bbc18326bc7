//! What is answered: `tower-http`'s files, and the headers that caches need.

use std::{convert::Infallible, path::Path};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use tower_http::services::ServeDir;

use super::files::Beneath;

/// Bytes read from a file at a time: enough to keep a disk and a fast link busy, and little enough
/// that a thousand downloads at once fit into a small server's memory.
const CHUNK: usize = 128 << 10;

/// The service for everything below `dist`.
///
/// Single ranges are answered with 206. A request for several ranges at once gets the whole file
/// with 200, which RFC 9110, section 14.2, allows any server to do: lab machines ask for one range.
pub(super) fn router(dist: &Path) -> Router {
    let files = ServeDir::with_backend("", Beneath::new(dist))
        .append_index_html_on_directories(false)
        .redirect_to_trailing_slash(false)
        .ignore_multi_range_requests(true)
        .with_buf_chunk_size(CHUNK);
    Router::new()
        .fallback_service(files)
        .layer(middleware::from_fn(cache_control))
        .layer(middleware::from_fn(if_range))
}

/// An image never changes under its name. All else is asked for again each time, and costs a 304.
async fn cache_control(request: Request, next: Next) -> Response {
    let is_image = request.uri().path().starts_with("/images/");
    let mut response = next.run(request).await;
    let found = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    // Not so what is missing: it may be published in a minute.
    let value = if is_image && found { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    response
}

/// A range that goes on with an earlier download is for that version of the file alone: when the
/// file has changed since, `If-Range` asks for all of it (RFC 9110, section 13.1.5), where
/// `tower-http` would answer with a part that does not fit.
async fn if_range(request: Request, next: Next) -> Result<Response, Infallible> {
    let (mut parts, body) = request.into_parts();
    let Some(version) = parts.headers.remove(header::IF_RANGE) else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let mut look = Request::new(Body::empty());
    *look.method_mut() = Method::HEAD;
    *look.uri_mut() = parts.uri.clone();
    if !is_current(&version, next.clone().run(look).await.headers()) {
        parts.headers.remove(header::RANGE);
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

fn is_current(version: &HeaderValue, now: &HeaderMap) -> bool {
    [header::ETAG, header::LAST_MODIFIED].iter().any(|name| now.get(name) == Some(version))
}

//! What is answered: `tower-http`'s files, and the headers that caches need.

use std::{convert::Infallible, path::Path};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, connect_info::IntoMakeServiceWithConnectInfo},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use tower_http::services::ServeDir;

use super::{files::Beneath, listener::Visitor};

/// Bytes read from a file at a time: enough to keep a disk and a fast link busy, and little enough
/// that a thousand downloads at once fit into a small server's memory.
const CHUNK: usize = 128 << 10;

/// When to come back where there is no place, in seconds. Machines wait for 30 of them where they have a system to start
/// meanwhile (`update.when_busy`), and for 600 in all.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// The service for everything below `dist`.
///
/// Single ranges are answered with 206. A request for several ranges at once gets the whole file
/// with 200, which RFC 9110, section 14.2, allows any server to do: lab machines ask for one range.
pub(super) fn service(dist: &Path) -> IntoMakeServiceWithConnectInfo<Router, Visitor> {
    let files = ServeDir::with_backend("", Beneath::new(dist))
        .append_index_html_on_directories(false)
        .redirect_to_trailing_slash(false)
        .ignore_multi_range_requests(true)
        .with_buf_chunk_size(CHUNK);
    Router::new()
        .fallback_service(files)
        .layer(middleware::from_fn(cache_control))
        .layer(middleware::from_fn(if_range))
        .layer(middleware::from_fn(turn_away))
        .into_make_service_with_connect_info()
}

/// Who has no place gets one answer. For images, which take long, a machine is asked to come back, and does. All
/// else is small, and given: by it a machine knows that there is something to wait for. Nor do firmware and boot
/// loaders know how to come back.
async fn turn_away(
    ConnectInfo(visitor): ConnectInfo<Visitor>,
    request: Request,
    next: Next,
) -> Response {
    if !visitor.is_extra {
        return next.run(request).await;
    }
    let mut response = if is_image(&request) {
        let headers = [
            (header::RETRY_AFTER, RETRY_AFTER),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (StatusCode::SERVICE_UNAVAILABLE, headers, "there are too many downloads at the moment\n")
            .into_response()
    } else {
        next.run(request).await
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn is_image(request: &Request) -> bool {
    request.uri().path().starts_with("/images/")
}

/// An image never changes under its name. All else is asked for again each time, and costs a 304.
async fn cache_control(request: Request, next: Next) -> Response {
    let is_image = is_image(&request);
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

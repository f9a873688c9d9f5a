//! The chat's built pages: the files of one directory, for GET and HEAD.
//!
//! Promises: nothing outside of the directory is read, whatever the path says and wherever a link points; a directory is
//! never listed. The pages that the router in the browser knows are all `index.html`. Files are not held: what was built
//! anew is served at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;

/// Pages that the browser tells apart.
const PAGES: [&str; 4] = ["/", "/visitor", "/agent", "/inspector"];

/// Pages run what was built with them and nothing else, and are shown in no frame of others. They may talk to any server: the
/// inspector looks at whatever relay it is told, and the chat may have been built for another one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      manifest-src 'self'; frame-src 'self'; connect-src 'self' http: https: ws: wss:; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'self'";

/// A longer path names no file of ours.
const LONGEST: usize = 512;

/// Larger files are not pages.
const LARGEST: u64 = 32 << 20;

/// A directory of pages.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    root: Arc<Path>,
}

impl Pages {
    /// The pages in a directory.
    pub(super) fn new(directory: PathBuf) -> Self {
        // Through links, so that what a path leads to can be compared. A directory that is gone serves nothing.
        let root = directory.canonicalize().unwrap_or(directory);
        Self { root: root.into() }
    }

    /// The answer to any path; none when there is no such file.
    pub(super) async fn answer(&self, method: &Method, uri: &Uri) -> Option<Response<Body>> {
        let path = self.find(uri.path()).await?;
        if method != Method::GET && method != Method::HEAD {
            let allowed = [(header::ALLOW, "GET, HEAD")];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allowed).into_response());
        }
        let content = tokio::fs::read(&path).await.ok()?;
        let (size, is_head) = (content.len(), method == Method::HEAD);
        let mut response = Response::new(if is_head { Body::empty() } else { content.into() });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        // What is built into assets has its content in its name.
        let is_built = uri.path().starts_with("/assets/");
        let keep = if is_built { "public, max-age=31536000, immutable" } else { "no-cache" };
        for (name, value) in [
            (header::CONTENT_TYPE, kind(&path)),
            (header::CACHE_CONTROL, keep),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }

    /// The file that a path names.
    async fn find(&self, path: &str) -> Option<PathBuf> {
        let name = if PAGES.contains(&path) { "index.html" } else { plain(path)? };
        let found = tokio::fs::canonicalize(self.root.join(name)).await.ok()?;
        if !found.starts_with(&self.root) {
            return None;
        }
        let facts = tokio::fs::metadata(&found).await.ok()?;
        (facts.is_file() && facts.len() <= LARGEST).then_some(found)
    }
}

/// A path below the directory, made of plain names only: letters, digits, `-`, `_` and single dots inside.
fn plain(path: &str) -> Option<&str> {
    let path = path.strip_prefix('/')?;
    let is_plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    (path.len() <= LONGEST && path.split('/').all(is_plain)).then_some(path)
}

/// The kind of a file's content, by its name.
fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_looked_for() {
        for path in ["/assets/index-D4f_.js", "/favicon.svg"] {
            assert_eq!(plain(path), path.strip_prefix('/'));
        }
        for path in [
            "",
            "/",
            "//",
            "/../x",
            "/assets/../../x",
            "/.built",
            "/assets/.x",
            "/%2e%2e/x",
            "/a\\b",
            "/a//b",
            "/a/",
            "assets/x",
            "/a\0b",
            "/é",
        ] {
            assert_eq!(plain(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn nothing_outside_is_found_by_a_link() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("dist");
        std::fs::create_dir_all(root.join("assets")).unwrap();
        std::fs::write(root.join("index.html"), "<!doctype html>").unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(place.path().join("secret"), root.join("link")).unwrap();
        let pages = Pages::new(root.clone());
        for (path, expected) in [
            ("/", Some("index.html")),
            ("/agent", Some("index.html")),
            ("/index.html", Some("index.html")),
            ("/link", None),
            ("/assets", None),
            ("/elsewhere", None),
            ("/agent/x", None),
        ] {
            let expected = expected.map(|name| root.canonicalize().unwrap().join(name));
            assert_eq!(pages.find(path).await, expected, "{path}");
        }
    }

    #[tokio::test]
    async fn a_page_is_only_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("index.html"), "hello").unwrap();
        let pages = Pages::new(root.path().to_owned());
        for (method, status) in [(Method::GET, 200), (Method::HEAD, 200), (Method::POST, 405)] {
            let answer = pages.answer(&method, &Uri::from_static("/visitor?open")).await.unwrap();
            assert_eq!(answer.status(), status, "{method}");
        }
        assert!(pages.answer(&Method::GET, &Uri::from_static("/x")).await.is_none());
    }
}

//! The head of a request, from octets to what is asked for (RFC 9112).
//!
//! Must not contain: connections, answers.

use super::chunked::Decoder;
use super::response::Status;

/// Octets of a head at most, request line and blank line included.
pub(super) const HEAD_MAX: usize = 8 * 1024;
/// Header fields of a request at most.
const FIELDS_MAX: usize = 64;

/// What may be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Put,
    /// One that RFC 9110 knows and nothing here allows.
    Other,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/`
    Status,
    /// `/bytes/N`
    Bytes(u64),
    /// `/echo`
    Echo,
    /// `/favicon.ico`: browsers ask for it unasked.
    Favicon,
    /// Anything else.
    Missing,
}

/// How the end of a body is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many octets are still to come.
    Sized(u64),
    /// Until the last chunk.
    Chunked(Decoder),
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Octets of the head.
    pub(super) len: usize,
    /// HTTP/1.1, not 1.0.
    pub(super) modern: bool,
    pub(super) method: Method,
    pub(super) resource: Resource,
    pub(super) body: Framing,
    /// The connection is to be kept after it.
    pub(super) keep: bool,
    /// The client sends its body when it has been asked to.
    pub(super) expects_continue: bool,
    /// It would like HTML where there is a choice: browsers say so, curl and load generators do not.
    pub(super) html: bool,
}

/// Reads a head from the front of `octets`; `None` when its end is not there yet. After an error nobody knows where
/// the next request begins: the connection has to be closed.
pub(super) fn parse(octets: &[u8]) -> Result<Option<Request>, Status> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(octets) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
        Ok(httparse::Status::Partial) if octets.len() < HEAD_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Status::FieldsTooLarge),
        Err(httparse::Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(Status::BadRequest);
    };
    let modern = version == 1;
    let Fields { host, length, chunked, close, keep_alive, expects_continue, html } = Fields::read(head.headers)?;
    // RFC 9112 3.2: exactly one, in 1.1.
    if host > 1 || (modern && host == 0) {
        return Err(Status::BadRequest);
    }
    // RFC 9112 6.1: a proxy in between may have taken another one of the two for the truth.
    if chunked && (length.is_some() || !modern) {
        return Err(Status::BadRequest);
    }
    Ok(Some(Request {
        len,
        modern,
        method: read_method(method)?,
        resource: read_target(target),
        body: if chunked { Framing::Chunked(Decoder::default()) } else { Framing::Sized(length.unwrap_or(0)) },
        keep: !close && (modern || keep_alive),
        expects_continue: expects_continue && modern,
        html,
    }))
}

fn read_method(method: &str) -> Result<Method, Status> {
    Ok(match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => Method::Other,
        _ => return Err(Status::NotImplemented),
    })
}

/// The path of a target in origin form, or in absolute form (RFC 9112 3.2), without its query.
fn read_target(target: &str) -> Resource {
    let path = match target.split_once("://") {
        Some(("http", rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match path {
        "/" => Resource::Status,
        "/echo" => Resource::Echo,
        "/favicon.ico" => Resource::Favicon,
        _ => path.strip_prefix("/bytes/").and_then(digits).map_or(Resource::Missing, Resource::Bytes),
    }
}

/// A number of nothing but digits.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|octet| octet.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What is looked at in the header fields.
#[derive(Debug, Default)]
struct Fields {
    host: u32,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    html: bool,
}

impl Fields {
    fn read(list: &[httparse::Header<'_>]) -> Result<Self, Status> {
        let mut fields = Self::default();
        for field in list {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("host") {
                fields.host += 1;
            } else if is("content-length") {
                let value = std::str::from_utf8(field.value).ok().and_then(digits).ok_or(Status::BadRequest)?;
                if fields.length.is_some_and(|earlier| earlier != value) {
                    return Err(Status::BadRequest);
                }
                fields.length = Some(value);
            } else if is("transfer-encoding") {
                // RFC 9112 6.1: no other coding is understood here, and none on top of it.
                if fields.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Status::NotImplemented);
                }
                fields.chunked = true;
            } else if is("connection") {
                for option in field.value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii) {
                    fields.close |= option.eq_ignore_ascii_case(b"close");
                    fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("expect") {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Status::ExpectationFailed);
                }
                fields.expects_continue = true;
            } else if is("accept") {
                // Media ranges with their parameters (RFC 9110 12.5.1). Weights are not compared: who names it likes it.
                let mut ranges = field.value.split(|octet| matches!(octet, b',' | b';')).map(<[u8]>::trim_ascii);
                fields.html |= ranges.any(|range| range.eq_ignore_ascii_case(b"text/html"));
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn one(head: &str) -> Request {
        parse(head.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn targets() {
        for (target, resource) in [
            ("/", Resource::Status),
            ("/?x=1", Resource::Status),
            ("http://10.7.0.2/bytes/7", Resource::Bytes(7)),
            ("http://10.7.0.2", Resource::Status),
            ("/bytes/0", Resource::Bytes(0)),
            ("/bytes/18446744073709551615", Resource::Bytes(u64::MAX)),
            ("/bytes/18446744073709551616", Resource::Missing),
            ("/bytes/", Resource::Missing),
            ("/bytes/+7", Resource::Missing),
            ("/echo/", Resource::Missing),
            ("*", Resource::Missing),
        ] {
            assert_eq!(one(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).resource, resource, "{target}");
        }
    }

    #[test]
    fn connections_are_kept_as_the_version_and_the_field_say() {
        for (version, field, keep) in [
            ("1.1", "X: y", true),
            ("1.1", "Connection: close", false),
            ("1.1", "connection: upgrade , CLOSE", false),
            ("1.0", "X: y", false),
            ("1.0", "Connection: Keep-Alive", true),
            ("1.0", "Connection: keep-alive, close", false),
        ] {
            let request = one(&format!("GET / HTTP/{version}\r\nHost: x\r\n{field}\r\n\r\n"));
            assert_eq!(request.keep, keep, "{version} {field}");
        }
    }

    #[test]
    fn html_is_for_those_who_name_it() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("application/json, TEXT/HTML;q=0.5", true),
            ("*/*", false),
            ("text/plain", false),
            ("x-text/html", false),
        ] {
            assert_eq!(one(&format!("GET / HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n")).html, html, "{accept}");
        }
        assert!(!one("GET / HTTP/1.1\r\nHost: x\r\n\r\n").html);
    }

    #[test]
    fn doubtful_heads_are_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Status::VersionNotSupported),
            ("GET /\r\n\r\n", Status::BadRequest),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("\x16\x03\x01\x02\x00\x01\x00", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Status::BadRequest),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Status::BadRequest,
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Status::NotImplemented),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n", Status::ExpectationFailed),
            ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Status::NotImplemented),
        ] {
            assert_eq!(parse(head.as_bytes()), Err(status), "{head}");
        }
    }

    #[test]
    fn heads_have_a_limit() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        assert_eq!(parse(long.as_bytes()), Err(Status::FieldsTooLarge));
        assert_eq!(parse(&long.as_bytes()[..HEAD_MAX]), Err(Status::FieldsTooLarge));
        assert_eq!(parse(&long.as_bytes()[..HEAD_MAX - 1]), Ok(None));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX));
        assert_eq!(parse(many.as_bytes()), Err(Status::FieldsTooLarge));
    }

    #[test]
    fn every_beginning_of_a_head_is_incomplete() {
        let head = b"\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
        for len in 0..head.len() {
            assert_eq!(parse(&head[..len]), Ok(None), "{len}");
        }
        let request = parse(head).unwrap().unwrap();
        assert_eq!((request.len, request.body), (head.len(), Framing::Sized(5)));
        assert!(request.expects_continue);
    }
}

//! Paths and parameters of a request, as Go's server reads them.

/// The parameters of a request, in order, percent-decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }
}

/// A path without its percent signs, part by part: an encoded slash is none.
pub(super) fn decode_path(path: &str) -> String {
    let parts: Vec<String> = path.split('/').map(|part| decode(part).replace('/', "%2F")).collect();
    parts.join("/")
}

/// A path for a header: everything but plain characters encoded again.
pub(super) fn encode_path(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~$&+,:;=@".contains(&byte);
    path.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The path without empty, `.` and `..` parts; a slash at the end stays.
pub(super) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Query, clean_path, decode_path, encode_path};

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        let cases = [
            ("/health", "/health"),
            ("//health", "/health"),
            ("/../health", "/health"),
            ("/a/./b/../c", "/a/c"),
            ("/livez/", "/livez/"),
            ("//", "/"),
            ("/", "/"),
            ("/a//", "/a/"),
            ("*", "/*"),
        ];
        for (path, clean) in cases {
            assert_eq!(clean_path(path), clean, "{path}");
        }
        assert_eq!(decode_path("/%68ealth+%zz"), "/health+%zz");
        assert_eq!(decode_path("/a%2fb"), "/a%2Fb");
        assert_eq!(encode_path("/a b\r\n"), "/a%20b%0D%0A");
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("exclude=a&exclude=b%20c+d&verbose&&x=");
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["a", "b c d"]);
        assert!(query.has("verbose") && query.has("x") && !query.has("y"));
    }
}

//! The body of the fuzz target `flags`.

use super::{Intent, Outside, read};

/// Takes `bytes` for arguments, one per line, and for variables, one per line that has a blank;
/// reads them. Whatever they are, this returns; and what is taken has passed its own checks.
pub fn fuzz_flags(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut arguments = Vec::new();
    let mut variables = Vec::new();
    for line in text.lines() {
        match line.split_once(' ') {
            Some((name, value)) => variables.push((format!("ETCD_{name}"), value.to_owned())),
            None => arguments.push(line.to_owned()),
        }
    }
    let outside = Outside {
        arguments: &arguments,
        variables: &variables,
        default_host: &|| None,
        // What was made up stands for what is in the file, too.
        read_file: &|text| Ok(text.replace("\\n", "\n")),
    };
    let Ok(Intent::Start(start)) = read(&outside) else { return };
    assert_eq!(start.config.check(), Ok(()), "what is read is checked");
    assert!(!start.config.initial_advertise_peer_urls.is_empty());
    let _ = start.config.fields();
}

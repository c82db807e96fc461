//! The bodies of the fuzz targets `flags` and `config_file`.

use super::{Config, Intent, Outside, read};
use crate::members::Members;

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
    settle(&outside);
}

/// Reads `bytes` as the configuration file. Whatever they are, this returns; and what is taken has
/// passed its own checks.
pub fn fuzz_file(bytes: &[u8]) {
    let outside = Outside {
        arguments: &["--config-file=etcd.yaml".to_owned()],
        variables: &[],
        default_host: &|| None,
        read_file: &|_| Ok(String::from_utf8_lossy(bytes).into_owned()),
    };
    settle(&outside);
}

fn settle(outside: &Outside<'_>) {
    let Ok(Intent::Start(start)) = read(outside) else { return };
    assert_eq!(start.config.check(), Ok(()), "what is read is checked");
    assert!(!start.config.initial_advertise_peer_urls.is_empty());
    let _ = start.config.fields();
    // Who founds a cluster is one of its founders. Names are not looked up for this.
    if start.config.verify_joining().is_ok() {
        let Config { initial_cluster, initial_cluster_token, name, .. } = &start.config;
        let founders = Members::founding(initial_cluster, initial_cluster_token);
        assert!(founders.iter().any(|founder| founder.name == *name));
    }
}

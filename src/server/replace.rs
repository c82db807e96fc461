//! A member whose log or vote is lost: what to do about it, or, with `--auto-replace`, doing it.
//!
//! ```text
//! the leader agrees ─▶ noted ─▶ everything moves to quarantine/<time> ─▶ joins, learns ─▶ votes
//!                      moving                                            joining
//! ```
//!
//! - Nothing is deleted, and nothing moves before the leader has agreed.
//! - A start that finds a note goes on where the one before ended.
//! - At most once an hour, by the folders that were moved: more often than that somebody should
//!   look at the disk. The leader counts for itself.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{StartError, others};
use crate::config::{ClusterState, Config, resolve_url};
use crate::error::Error;
use crate::members::{self, Change, JoinError, Member};
use crate::node::{self, BootError, Handle, REPLACEMENT_INTERVAL};
use crate::peer::{join, recall};
use crate::storage::layout::QUARANTINE;
use crate::tls;

/// How long to go on asking the others. A leader that is about to miss this member needs a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often they are asked.
const POLL: Duration = Duration::from_millis(250);

/// The note that the leader has agreed, and everything is about to move.
const MOVING: &str = "moving";
/// The note that everything has moved, and the member has no vote yet.
const JOINING: &str = "joining";

/// Goes on with a replacement that a stop has cut short; what to start with.
pub(super) async fn resume(config: Config) -> Result<Config, StartError> {
    let folder = config.data_dir().join(QUARANTINE);
    if !config.auto_replace || !(exists(&folder, MOVING)? || exists(&folder, JOINING)?) {
        return Ok(config);
    }
    if exists(&folder, MOVING)? {
        put_aside(&config)?;
    }
    if node::is_begun(&config) {
        return Ok(config);
    }
    let (_, members) =
        join::members(&others::named(&config), tls(&config)?.as_ref(), PATIENCE).await?;
    Ok(joining(config, &members))
}

/// What to start with instead, after a start was refused; or why there is nothing else.
pub(super) async fn replace(config: Config, refusal: StartError) -> Result<Config, StartError> {
    let why = match &refusal {
        StartError::Node(BootError::Forgotten(why)) => why.clone(),
        StartError::Bootstrapped { .. } | StartError::Join(JoinError::Started { .. }) => {
            "its data directory is empty".to_owned()
        }
        _ => return Err(refusal),
    };
    if !config.auto_replace {
        // Who finds its directory empty is told what to do already.
        let is_log = matches!(refusal, StartError::Node(_));
        return Err(if is_log { advise(&config, why).await? } else { refusal });
    }
    tracing::error!(why, "the log or the vote of this member is lost: asking to be replaced");
    let folder = config.data_dir().join(QUARANTINE);
    not_again(&folder)?;
    let members = ask(&config, &why).await?;
    write(&folder, MOVING, b"")?;
    put_aside(&config)?;
    Ok(joining(config, &members))
}

/// Has the leader replace this member, whoever that is.
async fn ask(config: &Config, why: &str) -> Result<Vec<Member>, StartError> {
    let (tls, began) = (tls(config)?, Instant::now());
    let mut answer = "nobody to ask".to_owned();
    while began.elapsed() < PATIENCE {
        for url in others::known(config, tls.as_ref()).await {
            match recall::replace(&url, tls.as_ref(), &config.initial_advertise_peer_urls).await {
                Ok(replaced) => {
                    let id = format!("{:x}", replaced.id);
                    tracing::warn!(id, "this member was replaced: it joins as a learner");
                    return Ok(replaced.members);
                }
                Err(recall::Denied::NotNow(words)) => {
                    tracing::debug!(url, words, "not replaced");
                    answer = format!("{url}: {words}");
                }
                Err(recall::Denied::No(words)) => {
                    let advised = advise(config, why.to_owned()).await?;
                    return Err(unreplaced(format!("{url}: {words}. {advised}")));
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
    let advised = advise(config, why.to_owned()).await?;
    Err(unreplaced(format!("{answer}. {advised}")))
}

fn unreplaced(why: String) -> StartError {
    StartError::Unreplaced { why }
}

/// What an operator should do.
async fn advise(config: &Config, why: String) -> Result<StartError, StartError> {
    let (urls, own) = (others::named(config), &config.initial_advertise_peer_urls);
    if urls.is_empty() {
        let advice = "No other member has what was agreed on: restore a snapshot into an empty \
                      directory (`kvorum snapshot restore`)";
        return Ok(StartError::Forgotten { why, advice: advice.to_owned() });
    }
    let known = join::members(&urls, tls(config)?.as_ref(), others::PATIENCE).await;
    let remove = match known {
        Ok((_, members)) => {
            let is_own =
                |one: &&Member| members::difference(&one.peer_urls, own, &resolve_url).is_none();
            let old = members.iter().find(is_own);
            old.map(|one| format!("`etcdctl member remove {:x}`, ", one.id)).unwrap_or_default()
        }
        Err(_) => "`etcdctl member remove` with its id (`etcdctl member list`), ".to_owned(),
    };
    let dirs = [Some(config.data_dir()), config.wal_dir.clone()];
    let dirs = dirs.into_iter().flatten().map(|dir| dir.display().to_string());
    let moves = dirs.map(|dir| format!("`mv {dir} {dir}.lost`, ")).collect::<String>();
    let (name, own) = (&config.name, own.join(","));
    let advice = format!(
        "Run {remove}{moves}`etcdctl member add {name} --peer-urls={own}`, then start it with \
         --initial-cluster-state=existing and the --initial-cluster that was printed. Started \
         with --auto-replace, it does all that by itself, if the others have that flag, too"
    );
    Ok(StartError::Forgotten { why, advice })
}

fn tls(config: &Config) -> Result<Option<Arc<tls::Peers>>, StartError> {
    match &config.peer_tls {
        Some(tls) => Ok(Some(Arc::new(tls::Peers::new(tls)?))),
        None => Ok(None),
    }
}

/// A configuration that joins these members.
fn joining(mut config: Config, members: &[Member]) -> Config {
    let mut own = config.initial_advertise_peer_urls.clone();
    own.sort();
    let pairs = |member: &Member| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        let name = match (urls == own, member.name.is_empty()) {
            (true, _) => config.name.clone(),
            (false, false) => member.name.clone(),
            (false, true) => format!("{:x}", member.id),
        };
        urls.into_iter().map(|url| (name.clone(), url)).collect::<Vec<_>>()
    };
    let cluster = members.iter().flat_map(pairs).collect();
    config.initial_cluster = cluster;
    config.initial_cluster_state = ClusterState::Existing;
    config
}

/// Refuses what was done a short while ago.
fn not_again(folder: &Path) -> Result<(), StartError> {
    let names = match fs::read_dir(folder) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(folder, error)),
    };
    let times = names.flatten().filter_map(|name| name.file_name().to_str()?.parse().ok());
    let Some(last) = times.max() else { return Ok(()) };
    if now().saturating_sub(last) < REPLACEMENT_INTERVAL.as_secs() {
        return Err(unreplaced(format!(
            "it was replaced less than an hour ago, and its log or its vote is lost again. Check \
             this machine's disk and memory; remove {} to have it tried once more",
            folder.join(last.to_string()).display()
        )));
    }
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Moves everything into a folder of its own, the log too, wherever it is; then notes that.
fn put_aside(config: &Config) -> Result<(), StartError> {
    let data_dir = config.data_dir();
    let _lock = node::lock(&data_dir)?;
    let folder = data_dir.join(QUARANTINE);
    let now = now().to_string();
    let mut moved = vec![data_dir.clone()];
    moved.extend(config.wal_dir.clone());
    for dir in moved {
        let to = dir.join(QUARANTINE).join(&now);
        move_all(&dir, &to).map_err(|error| cannot(&dir, error))?;
        tracing::warn!(to = %to.display(), "what was left was put aside");
    }
    let noted = fs::rename(folder.join(MOVING), folder.join(JOINING));
    noted.and_then(|()| sync(&folder)).map_err(|error| cannot(&folder, error))
}

fn move_all(dir: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !["lock", "lost+found", QUARANTINE].iter().any(|kept| name == *kept) {
            fs::rename(dir.join(&name), to.join(&name))?;
        }
    }
    sync(to)?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn exists(folder: &Path, note: &str) -> Result<bool, StartError> {
    folder.join(note).try_exists().map_err(|error| cannot(folder, error))
}

fn write(folder: &Path, note: &str, text: &[u8]) -> Result<(), StartError> {
    let write = || {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(note), text)?;
        File::open(folder.join(note))?.sync_all()?;
        sync(folder)
    };
    write().map_err(|error| cannot(folder, error))
}

fn cannot(path: &Path, source: io::Error) -> StartError {
    BootError::Directory { path: path.to_owned(), source }.into()
}

/// Asks for the vote of a member that joined to be replaced, until it has it.
pub(super) async fn promote(node: Handle, note: PathBuf) {
    loop {
        let own = node.member_id();
        if node.members().get(own).is_some_and(|member| !member.is_learner) {
            break;
        }
        match node.reconfigure(Change::Promote(own)).await {
            Ok(_) | Err(Error::MemberNotLearner) => {}
            Err(Error::Stopped) => return,
            Err(error) => tracing::debug!(%error, "no vote yet"),
        }
        tokio::time::sleep(POLL).await;
    }
    tracing::warn!("this member was replaced and votes again");
    if let Err(error) = fs::remove_file(&note) {
        tracing::warn!(path = %note.display(), %error, "cannot remove a note");
    }
}

/// The note of a member that has no vote yet, if it is one.
pub(super) fn is_joining(config: &Config) -> Option<PathBuf> {
    let note = config.data_dir().join(QUARANTINE).join(JOINING);
    (config.auto_replace && note.exists()).then_some(note)
}

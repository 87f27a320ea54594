//! The token files of the state directory.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mayfly_core::auth::Token;
use rand::RngCore as _;

/// Everything is allowed to who has this one.
const FULL: &str = "token";
/// Reading metrics is allowed to who has this one.
const METRICS: &str = "metrics-token";

/// Bytes of a token's file that are looked at.
const MOST_BYTES: u64 = 4 << 10;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or made.
    #[error("cannot use the token file {}: {why}{}", path.display(), missing(why))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// Others can read it.
    #[error("the token file {} is open to others (mode {mode:o}): run `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("the file {} holds no token: {why}; a node's is in the file `token` of its state directory", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with what it holds.
        why: String,
    },
    /// A node's own holds something else.
    #[error(
        "{} is damaged: {why}. Restore it from a backup, or remove it: the node makes a new one at its start, which \
         whoever used the old one needs",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with what it holds.
        why: String,
    },
}

/// What a file that is not there may mean.
fn missing(why: &std::io::Error) -> &'static str {
    match why.kind() {
        std::io::ErrorKind::NotFound => {
            "; a node makes it in its state directory when it first starts (`mayfly serve`): name that directory with \
             MAYFLY_STATE_DIR"
        }
        _ => "",
    }
}

/// The full and the metrics token of a state directory, made at first use with mode 0600.
///
/// # Errors
/// [`TokenError`] names the file and the way out.
pub fn load_or_make(state_dir: &Path) -> Result<(Token, Token), TokenError> {
    Ok((one(&state_dir.join(FULL))?, one(&state_dir.join(METRICS))?))
}

/// The full token of a state directory, for the command line.
///
/// # Errors
/// [`TokenError`] names the file.
pub fn read_token(state_dir: &Path) -> Result<Token, TokenError> {
    read(&mayfly_store::state_dir::locate(state_dir, FULL))
}

/// The token in a file that its user names.
///
/// # Errors
/// [`TokenError`] names the file and the way out.
pub fn read_token_file(path: &Path) -> Result<Token, TokenError> {
    read(path)
}

/// Reads a token, or says what is wrong with it without telling it.
///
/// # Errors
/// What a token is, and what this is instead.
pub fn parse_token(text: &str) -> Result<Token, String> {
    let given = text.trim();
    Token::from_text(given).ok_or_else(|| {
        let what = match given.chars().count() {
            0 => "it is empty".to_owned(),
            1 => "it has 1 character".to_owned(),
            count if given.bytes().all(|byte| byte.is_ascii_graphic()) => {
                format!("it has {count} characters")
            }
            count => format!("of its {count} characters some are spaces or no ASCII"),
        };
        format!("{what}, and a token has 32 to 256 without a space")
    })
}

fn one(path: &Path) -> Result<Token, TokenError> {
    let file = |why| TokenError::File { path: path.into(), why };
    match read(path) {
        Err(TokenError::File { why, .. }) if why.kind() == std::io::ErrorKind::NotFound => {}
        Err(TokenError::Content { path, why }) => return Err(TokenError::Damaged { path, why }),
        other => return other,
    }
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let token = Token::generate(random);
    // Whole or not at all, and never over one that another process has just made.
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(file)?;
    writeln!(new, "{}", token.reveal()).map_err(file)?;
    new.as_file().sync_all().map_err(file)?;
    match new.persist_noclobber(path) {
        Ok(_) => {
            // A token that was handed out must be there after a crash.
            std::fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(file)?;
            Ok(token)
        }
        Err(lost) if lost.error.kind() == std::io::ErrorKind::AlreadyExists => read(path),
        Err(lost) => Err(file(lost.error)),
    }
}

fn read(path: &Path) -> Result<Token, TokenError> {
    let file = |why| TokenError::File { path: path.into(), why };
    let opened = std::fs::File::open(path).map_err(file)?;
    let mode = opened.metadata().map_err(file)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Open { path: path.into(), mode });
    }
    // A token is short, and a file that a user names may be anything.
    let mut text = String::new();
    opened.take(MOST_BYTES).read_to_string(&mut text).map_err(file)?;
    parse_token(&text).map_err(|why| TokenError::Content { path: path.into(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_told_from_one_without_telling_it() {
        for (text, expected) in [
            ("abc", "it has 3 characters, and a token has 32 to 256"),
            ("", "it is empty"),
            ("two words that together are long enough", "some are spaces"),
        ] {
            let why = parse_token(text).unwrap_err();
            assert!(why.contains(expected) && (text.is_empty() || !why.contains(text)), "{why}");
        }
        assert!(parse_token(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn tokens_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let (full, metrics) = load_or_make(dir.path()).unwrap();
        assert_ne!(full.reveal(), metrics.reveal());
        let again = load_or_make(dir.path()).unwrap();
        assert_eq!((again.0.reveal(), again.1.reveal()), (full.reveal(), metrics.reveal()));
        assert_eq!(read_token(dir.path()).unwrap().reveal(), full.reveal());
        for name in [FULL, METRICS] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_make(dir.path()).unwrap();
        let path = dir.path().join(FULL);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_make(dir.path()).unwrap_err().to_string();
        let run = format!("run `chmod 600 {}`", path.display());
        assert!(error.contains("mode 644") && error.contains(&run), "{error}");
        for mode in [0o640, 0o604, 0o620, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read_token_file(&path), Err(TokenError::Open { .. })), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in ["short", "", "\n"] {
            std::fs::write(&path, damaged).unwrap();
            let error = load_or_make(dir.path()).unwrap_err().to_string();
            let named = format!("{} is damaged: ", path.display());
            assert!(error.starts_with(&named) && error.contains("or remove it"), "{error}");
            assert!(matches!(read_token_file(&path), Err(TokenError::Content { .. })));
        }
        assert!(matches!(read_token(Path::new("/nowhere")), Err(TokenError::File { .. })));
    }
}

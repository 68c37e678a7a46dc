//! A PostgreSQL of the tests' own.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{eventually::eventually, ports};

const START_WITHIN: Duration = Duration::from_secs(30);

/// Runs the server for as long as the standard input of the shell is open, which is as long as the process of the tests
/// lives, however that ends. Then nothing of it remains.
const UNTIL_STDIN_ENDS: &str = r#"
"$@" & server=$!
cat > /dev/null
kill -QUIT $server
wait $server
"#;

/// As above, and then removes the folder given first.
const AND_REMOVE: &str = r#"
folder=$1; shift
"$@" & server=$!
cat > /dev/null
kill -QUIT $server
wait $server
rm -rf "$folder"
"#;

static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A cluster on a free port of 127.0.0.1, in a temp folder. It does not sync to disk, but survives its own crash.
#[derive(Debug)]
pub struct PostgresServer {
    shell: Option<Child>,
    port: u16,
    folder: PathBuf,
    user: Option<User>,
    /// Absent if the cluster is shared: then the shell removes the folder.
    _remover: Option<TempDir>,
}

/// Whom the server runs as; it refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl PostgresServer {
    /// The cluster that all tests of this process have together, started by the first of them.
    ///
    /// # Errors
    ///
    /// PostgreSQL is not installed (the message says how to install it), or does not come up.
    pub async fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get_or_try_init(|| async { Self::in_folder(tempfile::tempdir()?, true).await }).await
    }

    /// A cluster of the test's own, which it may kill.
    ///
    /// # Errors
    ///
    /// As [`shared`](Self::shared).
    pub async fn start() -> anyhow::Result<Self> {
        Self::in_folder(tempfile::tempdir()?, false).await
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn database(&self) -> anyhow::Result<String> {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(&name))
    }

    /// Makes an empty database with a role of its own, and gives the URL for that. It may make schemas there, and nothing more: it is
    /// no superuser, and row-level security holds for it.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn database_of_plain_role(&self) -> anyhow::Result<String> {
        let url = self.database().await?;
        let (_, name) = url.rsplit_once('/').context("the URL ends with the name of the database")?;
        let mut connection = PgConnection::connect(&url).await?;
        for statement in
            [format!("CREATE ROLE {name} LOGIN"), format!("GRANT CREATE ON DATABASE {name} TO {name}")]
        {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(url.replacen("postgres@", &format!("{name}@"), 1))
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut shell) = self.shell.take() else { return Ok(()) };
        drop(shell.stdin.take());
        shell.wait()?;
        Ok(())
    }

    /// Starts it again on the same port, with what was committed.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.run(false)?;
        self.answering().await
    }

    async fn in_folder(folder: TempDir, shared: bool) -> anyhow::Result<Self> {
        let user = unprivileged_user()?;
        let (path, remover) = match shared {
            true => (folder.keep(), None),
            false => (folder.path().to_owned(), Some(folder)),
        };
        if let Some(user) = user {
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        let mut server = Self { shell: None, port: ports::free()?, folder: path, user, _remover: remover };
        let mut initdb = server.command(&program("initdb")?);
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        let made = initdb.arg("-D").arg(server.data()).output().context("initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        server.run(shared)?;
        server.answering().await?;
        Ok(server)
    }

    fn run(&mut self, remove: bool) -> anyhow::Result<()> {
        let log = fs::File::create(self.folder.join("log"))?;
        let mut shell = self.command("sh");
        shell.args(["-c", if remove { AND_REMOVE } else { UNTIL_STDIN_ENDS }, "sh"]);
        if remove {
            shell.arg(&self.folder);
        }
        shell.arg(program("postgres")?).arg("-D").arg(self.data());
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "fsync=off".to_owned(),
            "max_connections=300".to_owned(),
        ] {
            shell.args(["-c", &setting]);
        }
        let shell = shell.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.shell = Some(shell);
        Ok(())
    }

    async fn answering(&mut self) -> anyhow::Result<()> {
        let url = self.url("postgres");
        let answering = eventually("PostgreSQL answers", START_WITHIN, async || {
            Ok(PgConnection::connect(&url).await.is_ok())
        });
        answering.await.with_context(|| fs::read_to_string(self.folder.join("log")).unwrap_or_default())
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An error means that it is gone already, which is what is wanted.
        self.kill().ok();
    }
}

/// Nobody in particular if this is not root, who has to be somebody else.
fn unprivileged_user() -> anyhow::Result<Option<User>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        let id = |what: &str| -> Option<u32> {
            let out = Command::new("id").args([what, name]).output().ok()?;
            String::from_utf8(out.stdout).ok()?.trim().parse().ok()
        };
        if let (Some(uid), Some(gid)) = (id("-u"), id("-g")) {
            return Ok(Some(User { uid, gid }));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

/// A program of PostgreSQL, from PATH or from where Debian puts it, the newest first.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut debian: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    debian.sort_by_key(|path| std::cmp::Reverse(version(path)));
    folders.extend(debian.into_iter().map(|version| version.join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("the tests need {name} of PostgreSQL: `apt-get install postgresql` (Debian), or https://www.postgresql.org/download/")
    })
}

fn version(folder: &Path) -> u32 {
    folder.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok()).unwrap_or_default()
}

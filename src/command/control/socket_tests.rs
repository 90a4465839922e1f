#![allow(clippy::unwrap_used)]
use super::*;

/// A folder of its own, which goes with it; its name is longer than an address of a socket.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trust-{}-{name}-{}", std::process::id(), "x".repeat(120)));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn at(path: &Path) -> Place {
    Place::of(Some(&Wanted::At(path.to_owned())), "trust0").unwrap().unwrap()
}

#[test]
fn a_socket_is_for_its_user_alone_however_long_its_path_is() {
    let folder = Folder::new("mode");
    let path = folder.0.join("control");
    let listener = at(&path).bind().unwrap().unwrap();
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    let _client = connect(&path).unwrap();
    listener.set_nonblocking(false).unwrap();
    assert!(listener.accept().is_ok());
}

#[test]
fn what_a_dead_engine_left_is_replaced_and_a_living_engine_is_not() {
    let folder = Folder::new("stale");
    let path = folder.0.join("control");
    let place = at(&path);
    let living = place.bind().unwrap();
    let error = place.bind().unwrap_err().to_string();
    assert!(error.contains("an engine is there; choose another path"), "{error}");
    assert!(connect(&path).is_ok(), "it is still there");
    drop(living);
    assert!(connect(&path).is_err() && is_socket(&path), "nobody removed it");
    assert!(find(Some(&path)).unwrap_err().to_string().contains("no engine is there"));
    let _next = place.bind().unwrap();
    assert!(connect(&path).is_ok());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("file");
    let path = folder.0.join("control");
    fs::write(&path, "precious").unwrap();
    let error = at(&path).bind().unwrap_err().to_string();
    assert!(error.contains("something else is there"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let error = at(&folder.0.join("no/such/folder")).bind().unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn leftovers_are_swept_and_the_living_stay() {
    let folder = Folder::new("sweep");
    let (dead, living, file) = (folder.0.join("a.sock"), folder.0.join("b.sock"), folder.0.join("c.sock"));
    drop(at(&dead).bind().unwrap());
    let _listener = at(&living).bind().unwrap();
    fs::write(&file, "").unwrap();
    sweep(&folder.0);
    assert!(!dead.exists() && living.exists() && file.exists());
}

#[test]
fn a_folder_of_another_is_none_of_ours() {
    let folder = Folder::new("folder");
    let (open, linked) = (folder.0.join("open"), folder.0.join("linked"));
    make_folder(&open).unwrap();
    assert_eq!(fs::metadata(&open).unwrap().mode() & 0o777, 0o700);
    make_folder(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    assert!(make_folder(&open).is_err(), "others may write there");
    std::os::unix::fs::symlink("/tmp", &linked).unwrap();
    assert!(make_folder(&linked).is_err(), "it leads elsewhere");
}

#[test]
fn control_is_a_path_or_off() {
    assert_eq!("off".parse(), Ok(Wanted::Off));
    assert_eq!("./off".parse(), Ok(Wanted::At("./off".into())));
    assert!("".parse::<Wanted>().is_err());
    assert!(Place::of(Some(&Wanted::Off), "trust0").unwrap().is_none());
    let usual = Place::of(None, "trust7").unwrap().unwrap();
    assert!(usual.usual && usual.path.ends_with(format!("trust7-{}.sock", std::process::id())));
}

/// What `work` gives, if it is done in time: it may hang.
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(Duration::from_secs(20)).expect("it hangs")
}

/// An engine that is stopped, or hangs: its backlog is full.
fn hung(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = at(path).bind().unwrap().unwrap();
    let path = path.to_owned();
    let waiting = soon(move || std::iter::from_fn(|| connect(&path).ok()).take(1_000).collect::<Vec<_>>());
    assert!((1..1_000).contains(&waiting.len()), "{}", waiting.len());
    (listener, waiting)
}

#[test]
fn an_engine_that_hangs_is_there_and_holds_up_nobody() {
    let folder = Folder::new("hung");
    fs::set_permissions(&folder.0, Permissions::from_mode(0o700)).unwrap();
    let (path, dead) = (folder.0.join("a.sock"), folder.0.join("b.sock"));
    let (accepts, mut waiting) = hung(&path);
    drop(at(&dead).bind().unwrap());
    // Another that starts.
    let (place, sweeps) = (at(&path), folder.0.clone());
    let error = soon(move || place.bind()).unwrap_err().to_string();
    assert!(error.contains("an engine is there"), "{error}");
    soon(move || sweep(&sweeps));
    assert!(path.exists() && !dead.exists());
    // Who asks it hears so; who asks another is not held up.
    let (given, usual) = (path.clone(), vec![folder.0.clone()]);
    let error = soon(move || find(Some(&given))).unwrap_err().to_string();
    assert!(error.contains("a.sock: the engine takes no one who asks"), "{error}");
    let error = soon(move || find_in(&usual)).unwrap_err().to_string();
    assert!(error.contains("a.sock: the engine takes no one who asks"), "{error}");
    let _other = at(&dead).bind().unwrap();
    let usual = vec![folder.0.clone()];
    let error = soon(move || find_in(&usual)).unwrap_err().to_string();
    assert!(error.contains("several engines run") && error.contains("a.sock") && error.contains("b.sock"), "{error}");
    let another = dead.clone();
    soon(move || find(Some(&another))).unwrap();
    // It goes on, and whoever waited for a place has one.
    let usual = vec![folder.0.clone()];
    fs::remove_file(&dead).unwrap();
    let given = path.clone();
    let client = std::thread::spawn(move || find_in(&usual));
    accepts.set_nonblocking(false).unwrap();
    waiting.iter().for_each(|_| drop(accepts.accept().unwrap()));
    assert!(client.join().unwrap().is_ok());
    waiting.clear();
    assert!(find(Some(&given)).is_ok());
}

/// A pipe is opened only when somebody has its other end.
#[test]
fn what_is_no_folder_is_not_waited_for() {
    let folder = Folder::new("pipe");
    let pipe = folder.0.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let path = pipe.join("control");
    let error = soon(move || connect(&path)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn engines_in_a_folder_of_anothers_are_not_taken_for_ours() {
    let folder = Folder::new("others");
    let path = folder.0.join("a.sock");
    let _listener = at(&path).bind().unwrap();
    let find_it = || find_in(std::slice::from_ref(&folder.0));
    fs::set_permissions(&folder.0, Permissions::from_mode(0o700)).unwrap();
    assert!(find_it().is_ok());
    fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
    let error = find_it().unwrap_err().to_string();
    assert!(error.contains("no engine of yours runs"), "others may write there: {error}");
}

#[test]
fn a_user_has_the_number_that_it_has_outside() {
    // As it is where no namespace is, within unshare -Ur, and with ranges as containers have them.
    let (none, single, ranges) =
        ("0 0 4294967295\n", "         0       1000          1\n", "0 1000 1\n1 100000 65536\n");
    for (user, map, outside) in [
        (0, none, Some(0)),
        (1_000, none, Some(1_000)),
        (0, single, Some(1_000)),
        (1, single, None),
        (0, ranges, Some(1_000)),
        (1, ranges, Some(100_000)),
        (65_536, ranges, Some(165_535)),
        (65_537, ranges, None),
        // Not mapped, mapped to nobody, and no map.
        (65_534, "", None),
        (0, "0 4294967295 1\n", None),
        (7, "0 4294967290 4294967295\n", None),
        (0, "0 -1 1\nx\n0 5\n0 6 1", Some(6)),
    ] {
        assert_eq!(outer(user, map), outside, "{user} by {map:?}");
    }
    let user = geteuid().as_raw();
    let lines = fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(user_of_the_folder(), outer(user, &lines).unwrap_or(user));
}

fn user_of_the_folder() -> u32 {
    let folder = folders().pop().unwrap();
    folder.to_str().unwrap().strip_prefix("/tmp/trust-").unwrap().parse().unwrap()
}

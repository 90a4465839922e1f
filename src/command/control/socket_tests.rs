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

//! The eBPF program with which the kernel picks the queue of a packet (TUNSETSTEERINGEBPF), and the map that holds the
//! owner table it reads.
//!
//! The program is assembled here, instruction by instruction, and loaded by bpf(2): no compiler, no BTF, no object
//! file. It computes [`SteeringKeys::hash_packet`] and looks the result up; the two must agree on every packet, which
//! `tests/devices/steering.rs` has the kernel confirm. Where buckets are vacant until a flow is born in them, it claims the
//! bucket of a SYN for the shard whose worker runs on the CPU that sends it.
//!
//! The map is an array of **one** value that is all it reads: only values can be addressed directly by a program, and
//! only so do the entries lie four octets apart in the mapping that this process shares with the kernel.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use super::births::Births;
use super::keys::{BIRTH_FLAGS, BIRTH_MASK, FLAGS_AT, MULTIPLIERS, SteeringKeys};
use super::owner_table::{CPUS, Entries, OwnerTable};
use crate::wire::PROTOCOL_TCP;

/// The loaded program and the table it reads.
#[derive(Debug)]
pub struct Steering {
    /// Socket-filter program, to be attached to each queue's device. Close-on-exec.
    pub program: OwnedFd,
    /// The owner table, in memory shared with the program.
    pub table: OwnerTable,
}

/// Makes the map, deals its buckets out to `shards` shards and loads the program. Queue `i` is shard `i`'s.
///
/// # Errors
///
/// What bpf(2) or mmap(2) said, with the step that failed. `PermissionDenied` is the usual one: loading needs CAP_BPF
/// in the initial user namespace, which root inside an unprivileged user namespace has not. `InvalidData`: the verifier
/// refused the program; its last lines are in the text.
///
/// # Panics
///
/// When `shards` is 0.
pub fn load(keys: &SteeringKeys, shards: u16) -> io::Result<Steering> {
    load_with(keys, shards, None)
}

/// As [`load`], but buckets are vacant until a flow is born in them: then the shard has it whose worker runs on the CPU
/// that sends the SYN. `cpus` says where the worker of each shard runs; `None`: not in one place, so the hash decides.
///
/// # Errors
///
/// As [`load`]; a kernel before 5.12 refuses the program, for its compare-and-swap (`InvalidData`).
///
/// # Panics
///
/// When there is no shard, or there are more than 65,535.
pub fn load_by_birth(keys: &SteeringKeys, cpus: &[Option<usize>]) -> io::Result<Steering> {
    let shards = u16::try_from(cpus.len()).expect("shards are numbered by 16 bits");
    load_with(keys, shards, Some(Births::new(cpus)))
}

fn load_with(keys: &SteeringKeys, shards: u16, births: Option<Births>) -> io::Result<Steering> {
    let by_birth = births.is_some();
    let map = create_map().map_err(|e| explain("cannot create the steering map", e))?;
    let entries = map_entries(&map).map_err(|e| explain("cannot map the steering map's value", e))?;
    // SAFETY: a fresh shared mapping of exactly `Entries`, valid until `unmap`, which may run on any thread.
    let table = unsafe { OwnerTable::from_raw(entries, unmap, shards, births) };
    let program = load_program(&encode(&listing(keys, map.as_raw_fd(), shards, by_birth)))?;
    // The program and the mapping keep the map: its descriptor may go.
    Ok(Steering { program, table })
}

impl Steering {
    /// Runs the program once on an IP packet (BPF_PROG_TEST_RUN) and returns the queue it picks. For tests.
    ///
    /// # Errors
    ///
    /// What bpf(2) said; `InvalidInput` for an empty packet or one longer than about 3,500 octets.
    pub fn run(&self, packet: &[u8]) -> io::Result<u32> {
        // The kernel wants an Ethernet frame and takes the header off before a socket filter sees the packet.
        // The type is the one for local experiments: given IP's, the kernel would check lengths before the program does.
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&[0x88, 0xb5]);
        frame.extend_from_slice(packet);
        let mut attr = TestRunAttr {
            prog_fd: self.program.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: `attr` is BPF_PROG_TEST_RUN's layout; `data_in` points at `data_size_in` octets; no output is asked for.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
        Ok(attr.retval)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The program

/// Registers: r0 result, r1..r5 arguments (lost in a call), r6..r9 kept, fp the stack's upper end.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R6 = 6,
    R7,
    R8,
    R9,
    Fp,
}
use Reg::{Fp, R0, R1, R2, R3, R4, R6, R7, R8, R9};

/// Places to jump to; all jumps go forward.
#[derive(Clone, Copy, PartialEq)]
enum Label {
    Short,
    V4,
    PortsV4,
    HashV4,
    V6,
    WholeV6,
    HashV6,
    Finish,
    AddressesV4,
    AddressesV6,
    Unknown,
    LookUp,
    Claim,
    Hashed,
    Owned,
}

/// Width of a load.
#[derive(Clone, Copy)]
enum Width {
    U8,
    U16,
    U32,
    U64,
}

/// One instruction, or a label. Arithmetic is 64 bits wide.
#[derive(Clone, Copy)]
enum Op {
    /// The next instruction is where jumps to this label go.
    At(Label),
    /// `dst = src`
    Mov(Reg, Reg),
    /// `dst = value`
    MovImm(Reg, i32),
    /// `dst = value`: two slots.
    MovImm64(Reg, u64),
    /// `dst = address of the value of the map behind this descriptor, and so many octets on`: two slots.
    MapValue(Reg, RawFd, usize),
    /// `dst = *(width *)(base + offset)`, zero-extended, in the machine's byte order.
    Load(Width, Reg, Reg, i16),
    /// `dst += src`
    Add(Reg, Reg),
    /// `dst += value`
    AddImm(Reg, i32),
    /// `dst *= src`
    Mul(Reg, Reg),
    /// `dst ^= src`
    Xor(Reg, Reg),
    /// `dst &= value`
    AndImm(Reg, i32),
    /// `dst %= value`, unsigned
    ModImm(Reg, i32),
    /// `dst <<= bits`
    ShlImm(Reg, i32),
    /// `dst >>= bits`, filling with zeros
    ShrImm(Reg, i32),
    /// `goto label`
    Goto(Label),
    /// `if reg == value goto label`
    IfEq(Reg, i32, Label),
    /// `if reg != value goto label`
    IfNe(Reg, i32, Label),
    /// `if reg < value goto label`, unsigned
    IfLt(Reg, i32, Label),
    /// `old = *(u32 *)base; if old == (u32)r0 then *(u32 *)base = src; r0 = old`, all at once
    CompareExchange(Reg, Reg),
    /// `r0 = number of this CPU`
    ProcessorId,
    /// `r0 = skb_load_bytes(r1 = packet, r2 = offset, r3 = where to, r4 = octets)`: 0, or an error with nothing loaded.
    SkbLoadBytes,
    /// `return r0`
    Exit,
}
use Op::*;

/// Where the first 40 octets of a packet go: IPv4 addresses land on a multiple of 8, ports on one of 4.
const V4: i16 = -44;
/// Where 60 octets of an IPv6 packet go: addresses on multiples of 8, ports (offset 40) on one of 4.
const V6: i16 = -72;
/// MF bit and fragment offset as they lie in memory.
const FRAGMENT: i32 = 0x3fff_u16.to_be() as i32;

/// `r0 = load len octets at offset (r2) of the packet to fp + to`
fn load_octets(to: i16, len: i32) -> [Op; 5] {
    [Mov(R1, R6), Mov(R3, Fp), AddImm(R3, to as i32), MovImm(R4, len), SkbLoadBytes]
}

/// `reg *= r8; reg ^= reg >> 32`: one round of the hash, the multiplier being in r8.
fn round(reg: Reg) -> [Op; 4] {
    [Mul(reg, R8), Mov(R1, reg), ShrImm(R1, 32), Xor(reg, R1)]
}

/// The whole program. Throughout: r6 the packet and then the flags of its TCP header (0 = none), r7 the hash, r8 a
/// multiplier, r9 the ports (0 = hash the addresses only).
fn listing(keys: &SteeringKeys, map: RawFd, shards: u16, by_birth: bool) -> Vec<Op> {
    let [k0, k1] = keys.words();
    let mut p = vec![Mov(R6, R1), MovImm(R9, 0), MovImm64(R7, k0), MovImm64(R8, MULTIPLIERS[0])];

    // What is in the first octet? Offset 0 is the IP header: there is no link layer on a TUN.
    p.push(MovImm(R2, 0));
    p.extend(load_octets(V4, 40));
    p.extend([
        IfNe(R0, 0, Label::Short),
        Load(Width::U8, R0, Fp, V4),
        Mov(R1, R0),
        ShrImm(R1, 4),
        IfEq(R1, 6, Label::V6),
        IfEq(R1, 4, Label::V4),
        Goto(Label::Unknown),
    ]);

    // Fewer than 40 octets: no TCP in them, but perhaps IPv4 addresses.
    p.extend([At(Label::Short), MovImm(R2, 0)]);
    p.extend(load_octets(V4, 20));
    p.extend([
        IfNe(R0, 0, Label::Unknown),
        Load(Width::U8, R1, Fp, V4),
        ShrImm(R1, 4),
        IfEq(R1, 4, Label::AddressesV4),
        Goto(Label::Unknown),
    ]);

    p.extend(hash_v4());
    p.extend(hash_v6());

    // The last round, over the ports.
    p.extend([At(Label::Finish), Xor(R7, R9), MovImm64(R1, k1), Xor(R7, R1), MovImm64(R8, MULTIPLIERS[1])]);
    p.extend(round(R7));
    // 16 bits are left, which is also what convinces the verifier that the load below stays inside the value.
    p.extend([Mul(R7, R8), ShrImm(R7, 48), Goto(Label::LookUp)]);

    p.extend([At(Label::Unknown), MovImm(R7, 0), MovImm(R6, 0)]);
    p.extend(look_up(map, shards, by_birth));
    p
}

/// From the hash in r7 to the owner of its bucket. Entries are owner + 1; a vacant bucket (0) goes to the shard that takes
/// what is born on this CPU, if there is one and a flow is born, else to the one that the hash says.
fn look_up(map: RawFd, shards: u16, by_birth: bool) -> Vec<Op> {
    let mut p = vec![
        At(Label::LookUp),
        Mov(R8, R7),
        ShlImm(R7, 2),
        MapValue(R1, map, 0),
        Add(R7, R1),
        Load(Width::U32, R0, R7, 0),
        IfNe(R0, 0, Label::Owned),
        ModImm(R8, i32::from(shards)),
        AddImm(R8, 1),
    ];
    if by_birth {
        p.extend([
            AndImm(R6, BIRTH_MASK as i32),
            IfNe(R6, BIRTH_FLAGS as i32, Label::Hashed),
            ProcessorId,
            AndImm(R0, CPUS as i32 - 1),
            ShlImm(R0, 1),
            MapValue(R1, map, offset_of!(Entries, births)),
            Add(R1, R0),
            Load(Width::U16, R1, R1, 0),
            IfEq(R1, 0, Label::Claim),
            Mov(R8, R1),
            // Somebody else may have been faster: then r0 has the winner.
            At(Label::Claim),
            MovImm(R0, 0),
            CompareExchange(R7, R8),
            IfNe(R0, 0, Label::Owned),
            At(Label::Hashed),
        ]);
    }
    p.extend([Mov(R0, R8), At(Label::Owned), AddImm(R0, -1), Exit]);
    p
}

/// The hash of an IPv4 packet's addresses. Ports and flags count only in a TCP packet that is no fragment.
fn hash_v4() -> Vec<Op> {
    let mut p = vec![
        At(Label::V4),
        Load(Width::U8, R1, Fp, V4 + 9),
        IfNe(R1, PROTOCOL_TCP as i32, Label::AddressesV4),
        Load(Width::U16, R1, Fp, V4 + 6),
        AndImm(R1, FRAGMENT),
        IfNe(R1, 0, Label::AddressesV4),
        IfEq(R0, 0x45, Label::PortsV4),
    ];
    // With IP options the TCP header begins at IHL * 4.
    p.extend([Mov(R2, R0), AndImm(R2, 15), ShlImm(R2, 2), IfLt(R2, 20, Label::AddressesV4)]);
    p.extend(load_octets(V4 + 20, 20));
    p.push(IfNe(R0, 0, Label::AddressesV4));
    p.extend([
        At(Label::PortsV4),
        Load(Width::U32, R9, Fp, V4 + 20),
        Load(Width::U8, R6, Fp, V4 + 20 + FLAGS_AT as i16),
        Goto(Label::HashV4),
    ]);
    p.extend([At(Label::AddressesV4), MovImm(R6, 0)]);
    p.extend([At(Label::HashV4), Load(Width::U64, R1, Fp, V4 + 12), Xor(R7, R1)]);
    p.extend(round(R7));
    p.push(Goto(Label::Finish));
    p
}

/// The hash of an IPv6 packet's addresses. Ports and flags count only with a whole TCP header right behind the IP header;
/// 40 octets are there in any case.
fn hash_v6() -> Vec<Op> {
    let mut p = vec![At(Label::V6), MovImm(R2, 0)];
    p.extend(load_octets(V6, 60));
    p.extend([IfEq(R0, 0, Label::WholeV6), MovImm(R2, 0)]);
    p.extend(load_octets(V6, 40));
    p.extend([IfEq(R0, 0, Label::AddressesV6), Goto(Label::Unknown)]);
    p.extend([
        At(Label::WholeV6),
        Load(Width::U8, R1, Fp, V6 + 6),
        IfNe(R1, PROTOCOL_TCP as i32, Label::AddressesV6),
        Load(Width::U32, R9, Fp, V6 + 40),
        Load(Width::U8, R6, Fp, V6 + 40 + FLAGS_AT as i16),
        Goto(Label::HashV6),
    ]);
    p.extend([At(Label::AddressesV6), MovImm(R6, 0)]);
    p.push(At(Label::HashV6));
    for word in 0..4 {
        p.extend([Load(Width::U64, R1, Fp, V6 + 8 + 8 * word), Xor(R7, R1)]);
        p.extend(round(R7));
    }
    p
}

// ---------------------------------------------------------------------------------------------------------------------
// Encoding (Documentation/bpf/standardization/instruction-set.rst of the kernel)

/// An instruction slot as the kernel reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Slot {
    code: u8,
    /// Destination register in the low half as the machine numbers bit fields, source in the other.
    registers: u8,
    offset: i16,
    imm: i32,
}

impl Slot {
    fn new(code: u8, dst: Reg, src: u8, offset: i16, imm: i32) -> Self {
        let (dst, src) = (dst as u8, src);
        let registers = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
        Self { code, registers, offset, imm }
    }
}

impl Op {
    /// Slots the instruction takes.
    fn slots(self) -> usize {
        match self {
            At(_) => 0,
            MovImm64(..) | MapValue(..) => 2,
            _ => 1,
        }
    }
}

/// Resolves the labels and encodes the program.
fn encode(program: &[Op]) -> Vec<Slot> {
    /// Source field of a 64-bit immediate that stands for the address of a map's value; the second slot's immediate is
    /// the offset in it.
    const PSEUDO_MAP_VALUE: u8 = 2;
    const GET_SMP_PROCESSOR_ID: i32 = 8;
    const SKB_LOAD_BYTES: i32 = 26;
    /// Of an atomic operation: compare and exchange, with r0.
    const CMPXCHG: i32 = 0xf1;

    let place = |label: Label| {
        let at = program.iter().position(|op| matches!(op, At(l) if *l == label)).expect("every label has a place");
        program[..at].iter().map(|op| op.slots()).sum::<usize>()
    };
    let mut slots: Vec<Slot> = Vec::new();
    for op in program {
        let here = slots.len();
        // Jumps count from the slot behind them.
        let to = |label| (place(label) - here - 1) as i16;
        let slot = match *op {
            At(_) => continue,
            Mov(d, s) => Slot::new(0xbf, d, s as u8, 0, 0),
            MovImm(d, v) => Slot::new(0xb7, d, 0, 0, v),
            MovImm64(d, v) => {
                slots.push(Slot::new(0x18, d, 0, 0, v as u32 as i32));
                Slot { imm: (v >> 32) as i32, ..Slot::default() }
            }
            MapValue(d, fd, offset) => {
                slots.push(Slot::new(0x18, d, PSEUDO_MAP_VALUE, 0, fd));
                Slot { imm: offset as i32, ..Slot::default() }
            }
            Load(Width::U8, d, b, o) => Slot::new(0x71, d, b as u8, o, 0),
            Load(Width::U16, d, b, o) => Slot::new(0x69, d, b as u8, o, 0),
            Load(Width::U32, d, b, o) => Slot::new(0x61, d, b as u8, o, 0),
            Load(Width::U64, d, b, o) => Slot::new(0x79, d, b as u8, o, 0),
            Add(d, s) => Slot::new(0x0f, d, s as u8, 0, 0),
            AddImm(d, v) => Slot::new(0x07, d, 0, 0, v),
            Mul(d, s) => Slot::new(0x2f, d, s as u8, 0, 0),
            Xor(d, s) => Slot::new(0xaf, d, s as u8, 0, 0),
            AndImm(d, v) => Slot::new(0x57, d, 0, 0, v),
            ModImm(d, v) => Slot::new(0x97, d, 0, 0, v),
            ShlImm(d, v) => Slot::new(0x67, d, 0, 0, v),
            ShrImm(d, v) => Slot::new(0x77, d, 0, 0, v),
            Goto(l) => Slot::new(0x05, R0, 0, to(l), 0),
            IfEq(r, v, l) => Slot::new(0x15, r, 0, to(l), v),
            IfNe(r, v, l) => Slot::new(0x55, r, 0, to(l), v),
            IfLt(r, v, l) => Slot::new(0xa5, r, 0, to(l), v),
            CompareExchange(b, s) => Slot::new(0xc3, b, s as u8, 0, CMPXCHG),
            ProcessorId => Slot::new(0x85, R0, 0, 0, GET_SMP_PROCESSOR_ID),
            SkbLoadBytes => Slot::new(0x85, R0, 0, 0, SKB_LOAD_BYTES),
            Exit => Slot::new(0x95, R0, 0, 0, 0),
        };
        slots.push(slot);
    }
    slots
}

// ---------------------------------------------------------------------------------------------------------------------
// bpf(2)

const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;

/// Octets of the map's one value.
const VALUE_LEN: usize = size_of::<Entries>();

/// Fields of `union bpf_attr` for BPF_MAP_CREATE. The kernel takes what lies beyond as zero.
#[derive(Default)]
#[repr(C)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// Fields of `union bpf_attr` for BPF_PROG_LOAD.
#[derive(Default)]
#[repr(C)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// Fields of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[derive(Default)]
#[repr(C)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// # Safety
///
/// `A` must be a prefix of `union bpf_attr` as `command` reads it, and the pointers in it valid for that command.
unsafe fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<RawFd> {
    // SAFETY: `attr` points at `size_of::<A>()` octets that the kernel may read and write; the rest is the contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn create_map() -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    const MMAPABLE: u32 = 1 << 10;
    let mut attr = MapCreateAttr {
        map_type: ARRAY,
        key_size: 4,
        value_size: VALUE_LEN as u32,
        max_entries: 1,
        map_flags: MMAPABLE,
        map_name: *b"trust_owners\0\0\0\0",
        ..Default::default()
    };
    // SAFETY: BPF_MAP_CREATE's layout, no pointers in it.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
    // SAFETY: a new descriptor that nobody else has; bpf(2) makes them close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn map_entries(map: &OwnedFd) -> io::Result<NonNull<Entries>> {
    // SAFETY: a new mapping at an address of the kernel's choice, of the map's whole value; touches no other memory.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            VALUE_LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            map.as_raw_fd(),
            0,
        )
    };
    match NonNull::new(address) {
        Some(address) if address.as_ptr() != libc::MAP_FAILED => Ok(address.cast()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
///
/// `entries` must come from [`map_entries`] and be used by nobody afterwards.
unsafe fn unmap(entries: NonNull<Entries>) {
    // SAFETY: exactly the mapping that was made; the caller's contract for the rest. Cannot fail for such.
    unsafe { libc::munmap(entries.as_ptr().cast(), VALUE_LEN) };
}

fn load_program(program: &[Slot]) -> io::Result<OwnedFd> {
    const SOCKET_FILTER: u32 = 1;
    // No helper that the program calls asks for a GPL-compatible licence.
    const LICENSE: &[u8] = b"MIT OR Apache-2.0\0";
    let mut attr = ProgLoadAttr {
        prog_type: SOCKET_FILTER,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        prog_name: *b"trust_steering\0\0",
        ..Default::default()
    };
    // SAFETY: BPF_PROG_LOAD's layout; `insns` points at `insn_cnt` slots, `license` at a C string; no log is asked for.
    let fd = match unsafe { bpf(PROG_LOAD, &mut attr) } {
        Ok(fd) => fd,
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            return Err(explain("cannot load the steering program", e));
        }
        Err(e) => {
            // Once more for the verifier's opinion.
            let mut log = vec![0u8; 1 << 16];
            (attr.log_level, attr.log_size, attr.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
            // SAFETY: as above, and `log_buf` points at `log_size` octets that may be written.
            let _ = unsafe { bpf(PROG_LOAD, &mut attr) }.map(|fd| {
                // SAFETY: a new descriptor that nobody else has.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            });
            let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
            let text = String::from_utf8_lossy(&log[..end]);
            let last = text.trim_end().lines().rev().take(3).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            let refusal = format!("the kernel refused the steering program: {e} ({last})");
            // Not the error's own kind: EACCES from the verifier has nothing to do with rights.
            return Err(io::Error::new(io::ErrorKind::InvalidData, refusal));
        }
    };
    // SAFETY: a new descriptor that nobody else has; bpf(2) makes them close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Says which step failed and, where rights are the cause, which.
fn explain(step: &str, error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => " (bpf(2) needs CAP_BPF in the initial user namespace)",
        Some(libc::ENOSYS) => " (this kernel has no bpf(2))",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{step}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        let code = encode(&[
            MovImm64(R7, 0x1122_3344_5566_7788),
            IfNe(R7, 1, Label::Owned),
            Mov(R0, R7),
            At(Label::Owned),
            Exit,
        ]);
        let expected = [
            Slot::new(0x18, R7, 0, 0, 0x5566_7788),
            Slot { imm: 0x1122_3344, ..Slot::default() },
            Slot::new(0x55, R7, 0, 1, 1),
            Slot::new(0xbf, R0, R7 as u8, 0, 0),
            Slot::new(0x95, R0, 0, 0, 0),
        ];
        assert_eq!(code, expected);
        assert_eq!(size_of::<Slot>(), 8);
    }

    #[test]
    fn the_program_is_small_and_jumps_stay_inside() {
        for by_birth in [false, true] {
            let code = encode(&listing(&SteeringKeys::from_random([7; 16]), 3, 4, by_birth));
            assert!(code.len() < 150, "{} slots", code.len());
            for (i, slot) in code.iter().enumerate() {
                if matches!(slot.code, 0x05 | 0x15 | 0x55 | 0xa5) {
                    let target = i as i64 + 1 + i64::from(slot.offset);
                    assert!((0..code.len() as i64).contains(&target) && slot.offset >= 0, "slot {i}");
                }
            }
        }
    }
}

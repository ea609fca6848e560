//! The `bpf(2)` commands that aya does not offer, or not in the way that is needed.
#![expect(unsafe_code, reason = "system calls with raw attribute structs")]

use std::{
    ffi::CStr,
    io,
    mem::offset_of,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use aya_obj::generated::{
    BPF_F_SLEEPABLE, bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_func_info, bpf_insn,
    bpf_link_info, bpf_link_type, bpf_perf_event_type, bpf_prog_info, bpf_prog_type,
};

/// `(info.btf_size + name)` of a BTF object in the kernel.
pub(super) struct BtfObject {
    pub(super) fd: OwnedFd,
    pub(super) name: String,
    /// Whether the kernel itself made it (vmlinux or a module), not a program's loader.
    pub(super) of_kernel: bool,
}

/// A program to be loaded.
pub(super) struct ProgramToLoad<'a> {
    pub(super) name: &'a str,
    pub(super) instructions: &'a [bpf_insn],
    pub(super) program_type: bpf_prog_type,
    pub(super) typed: Option<TypedProgram<'a>>,
    pub(super) functions: Option<Functions<'a>>,
}

/// Where a typed program goes.
pub(super) struct TypedProgram<'a> {
    pub(super) attach_type: bpf_attach_type,
    /// Id of the function in its BTF.
    pub(super) function: u32,
    /// The BTF of the module that has the function; `None` for vmlinux.
    pub(super) module: Option<BorrowedFd<'a>>,
}

/// What BTF says of a program's functions.
pub(super) struct Functions<'a> {
    pub(super) btf: BorrowedFd<'a>,
    pub(super) records: &'a [bpf_func_info],
}

/// Some of what the kernel says of a program.
pub(super) struct ProgramInfo {
    pub(super) id: u32,
    /// How often the kernel skipped it because one was running on that CPU; `None` before 5.12, which does not count
    /// that.
    pub(super) recursion_misses: Option<u64>,
}

/// `BPF_PROG_LOAD`. With a buffer the verifier writes its log there.
pub(super) fn load_program(program: &ProgramToLoad<'_>, log: Option<&mut Vec<u8>>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: BPF_PROG_LOAD reads this member of the union, which is all zeroes so far.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = program.program_type as u32;
    load.insns = program.instructions.as_ptr() as u64;
    load.insn_cnt = count(program.instructions.len())?;
    load.license = c"GPL".as_ptr() as u64;
    if matches!(program.program_type, bpf_prog_type::BPF_PROG_TYPE_SYSCALL) {
        // The kernel takes no other of this type.
        load.prog_flags = BPF_F_SLEEPABLE;
    }
    for (to, from) in load.prog_name.iter_mut().take(15).zip(program.name.bytes()) {
        *to = from.cast_signed();
    }
    if let Some(typed) = &program.typed {
        load.expected_attach_type = typed.attach_type as u32;
        load.attach_btf_id = typed.function;
        load.__bindgen_anon_1.attach_btf_obj_fd = typed.module.map_or(0, number);
    }
    if let Some(functions) = &program.functions {
        load.prog_btf_fd = number(functions.btf);
        load.func_info = functions.records.as_ptr() as u64;
        load.func_info_cnt = count(functions.records.len())?;
        load.func_info_rec_size = size_of::<bpf_func_info>() as u32;
    }
    if let Some(log) = log {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
    }
    bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// `BPF_BTF_LOAD`.
pub(super) fn load_btf(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_7.btf = bytes.as_ptr() as u64;
    attr.__bindgen_anon_7.btf_size = count(bytes.len())?;
    bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// `BPF_PROG_TEST_RUN`: the program runs once, on this CPU, before the call returns.
pub(super) fn run_program(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.test.prog_fd = number(program);
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// What the kernel says of a loaded program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // SAFETY: the struct is made of integers.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = number(program);
    attr.info.info = &raw mut info as u64;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the kernel wrote into this member how much of the struct it knows.
    let known = unsafe { attr.info.info_len } as usize;
    let counts = known >= offset_of!(bpf_prog_info, recursion_misses) + size_of::<u64>();
    Ok(ProgramInfo { id: info.id, recursion_misses: counts.then_some(info.recursion_misses) })
}

/// `BPF_MAP_UPDATE_ELEM` of an array: `value` is as long as the map's values are.
pub(super) fn set_map_value(map: BorrowedFd<'_>, index: u32, value: &[u8]) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = number(map);
    attr.__bindgen_anon_2.key = &raw const index as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// `BPF_MAP_FREEZE`: user space cannot write it any more.
pub(super) fn freeze_map(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_1.map_type = number(map);
    bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// Links a program to a perf event; it stays attached while the descriptor is open. Since 5.15.
pub(super) fn link_to_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program);
    attr.link_create.__bindgen_anon_2.target_fd = number(event);
    attr.link_create.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Attaches a loaded tracing program; it stays attached while the descriptor is open.
pub(super) fn attach_tracing_program(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.prog_fd = number(program);
    bpf_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
}

/// `BPF_OBJ_PIN`: the object outlives this process, under this name in a bpf file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = number(object);
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// `BPF_OBJ_GET`: an object by its name in a bpf file system.
pub(super) fn open_pin(path: &CStr) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// The program that a link keeps attached.
pub(super) fn linked_program(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let info = link_info(link)?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = info.prog_id;
    bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)
}

/// How often the kernel passed over the probe that a link is of, because another one's handler ran on that CPU. `None`
/// for other links and before 6.6; 6.6 itself says 0.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>, `struct bpf_link_info`
pub(super) fn missed_by_probe(link: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let info = link_info(link)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_PERF_EVENT as u32 {
        return Ok(None);
    }
    // SAFETY: links of this type have this member, all of which are integers.
    let event = unsafe { info.__bindgen_anon_1.perf_event };
    if event.type_ != bpf_perf_event_type::BPF_PERF_EVENT_KPROBE as u32 {
        return Ok(None);
    }
    // SAFETY: events of this type have this member, all of which are integers.
    Ok(Some(unsafe { event.__bindgen_anon_1.kprobe }.missed))
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: the struct is made of integers.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = number(link);
    attr.info.info = &raw mut info as u64;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Whether the kernel has a program of this number.
pub(super) fn has_program(id: u32) -> io::Result<bool> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    match bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The id of the BTF object after `id`, `None` after the last.
pub(super) fn next_btf_id(id: u32) -> io::Result<Option<u32>> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
    match bpf(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attr) {
        // SAFETY: the kernel filled this member.
        Ok(_) => Ok(Some(unsafe { attr.__bindgen_anon_6.next_id })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a BTF object by id.
pub(super) fn open_btf(id: u32) -> io::Result<BtfObject> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    let fd = bpf_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr)?;
    let mut name = [0u8; 64];
    // SAFETY: the struct is made of integers.
    let mut info: bpf_btf_info = unsafe { std::mem::zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = name.len() as u32;
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = fd.as_raw_fd().cast_unsigned();
    attr.info.info = &raw mut info as u64;
    attr.info.info_len = size_of::<bpf_btf_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(BtfObject { fd, name: String::from_utf8_lossy(name).into_owned(), of_kernel: info.kernel_btf != 0 })
}

/// Waits until all programs have come to their end that run now: they do so as readers of RCU, and the kernel waits for
/// these. Where it does not let itself be asked, for longer than a program takes.
///
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/sched/membarrier.c#L589>
pub(in super::super) fn wait_for_programs() {
    /// `MEMBARRIER_CMD_GLOBAL`
    const GLOBAL: libc::c_int = 1;
    const LONG: Duration = Duration::from_millis(20);
    // SAFETY: the call has no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        std::thread::sleep(LONG);
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn count(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: the union is made of integers; the kernel demands that what is not used is zero.
    unsafe { std::mem::zeroed() }
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the pointer and size describe `attr`; the pointers in it were taken from live borrows by the callers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(-1)) }
}

package walls

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NoNewPrivileges keeps the calling thread from gaining any by running a program.
// [Filter] does that for all threads.
func NoNewPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	return nil
}

// Filter refuses the system calls by which a process reaches beyond its walls:
// sockets other than unix ones, namespaces, mounts, other processes' memory, keys,
// kernel modules and the like. They fail with EPERM, clone3 with ENOSYS: its flags
// cannot be seen, and every libc then falls back to clone. A call by another
// architecture's numbers kills the process.
func Filter() error {
	if arch == 0 {
		return fmt.Errorf("system call filter: there is none for %s", runtime.GOARCH)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := NoNewPrivileges(); err != nil {
		return err
	}
	code := program()
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	// Synchronised, it and "no new privileges" hold for Go's other threads, too.
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return fmt.Errorf("system call filter: %w", errno)
	}
	if failed != 0 {
		return fmt.Errorf("system call filter: thread %d has another one", failed)
	}
	return nil
}

// Where the kernel puts what a filter looks at (struct seccomp_data).
const (
	atNumber = 0
	atArch   = 4
	atArg0   = 16 // its low half: the machines here are little-endian
)

// namespaces are the flags of clone that make one. CLONE_NEWTIME is not among
// them: to clone it is a part of the exit signal.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

const (
	allow  = unix.SECCOMP_RET_ALLOW
	kill   = unix.SECCOMP_RET_KILL_PROCESS
	refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	absent = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// program returns the filter. Its length costs nothing: the kernel works out once
// which calls it allows whatever their arguments.
func program() []unix.SockFilter {
	code := []unix.SockFilter{
		load(atArch),
		skipUnless(unix.BPF_JEQ, arch, 1),
		skip(1),
		result(kill),
		load(atNumber),
	}
	if foreign != 0 { // x32 on amd64: the same architecture, other numbers
		code = append(code, skipUnless(unix.BPF_JGE, foreign, 1), result(kill))
	}
	code = append(code, skipUnless(unix.BPF_JEQ, unix.SYS_CLONE3, 1), result(absent))
	for _, nr := range append(refused, refusedHere...) {
		code = append(code, skipUnless(unix.BPF_JEQ, nr, 1), result(refuse))
	}
	for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		code = append(code, skipUnless(unix.BPF_JEQ, nr, 4), load(atArg0), skipUnless(unix.BPF_JEQ, unix.AF_UNIX, 1), result(allow), result(refuse))
	}
	return append(code,
		skipUnless(unix.BPF_JEQ, unix.SYS_CLONE, 3), load(atArg0), skipUnless(unix.BPF_JSET, namespaces, 1), result(refuse),
		result(allow))
}

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

// skipUnless goes on with the next instruction if the test holds, else past n.
func skipUnless(test uint16, k uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jf: n, K: k}
}

func skip(n uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: n}
}

func result(r uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: r}
}

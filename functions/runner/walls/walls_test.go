package walls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain is also the process that is confined: walls cannot be taken down again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "confined" {
		if err := confined(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// confined raises the walls and runs against each.
func confined() error {
	other := make(chan error)
	raised := make(chan struct{})
	go func() { // on a thread that was there before
		runtime.LockOSThread()
		other <- nil
		<-raised
		_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		other <- err
	}()
	<-other
	if err := Filter(); err != nil {
		return err
	}
	if err := Limit(Limits{Files: 32}); err != nil {
		return err
	}
	close(raised)
	if err := <-other; err != unix.EPERM {
		return fmt.Errorf("inet socket on another thread: %v", err)
	}
	if err := refusals(); err != nil {
		return err
	}
	return stillWorks()
}

func refusals() error {
	call := func(nr uintptr, args ...uintptr) error {
		var a [3]uintptr
		copy(a[:], args)
		_, _, errno := unix.RawSyscall(nr, a[0], a[1], a[2])
		return errno
	}
	for name, err := range map[string]error{
		"socket inet":    call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM),
		"socket inet6":   call(unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_STREAM),
		"socket packet":  call(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW),
		"socket netlink": call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW),
		"socket vsock":   call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM),
		"socketpair":     call(unix.SYS_SOCKETPAIR, unix.AF_INET, unix.SOCK_STREAM),
		"ptrace":         call(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
		"mount":          call(unix.SYS_MOUNT),
		"bpf":            call(unix.SYS_BPF),
		"unshare user":   call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"clone user":     call(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)),
		"clone net":      call(unix.SYS_CLONE, unix.CLONE_NEWNET|uintptr(unix.SIGCHLD)),
		"keyctl":         call(unix.SYS_KEYCTL),
		"kexec":          call(unix.SYS_KEXEC_LOAD),
		"io_uring":       call(unix.SYS_IO_URING_SETUP),
		"setns":          call(unix.SYS_SETNS),
		"userfaultfd":    call(unix.SYS_USERFAULTFD),
	} {
		if err != unix.EPERM {
			return fmt.Errorf("%s: %v, want EPERM", name, err)
		}
	}
	if err := call(unix.SYS_CLONE3); err != unix.ENOSYS {
		return fmt.Errorf("clone3: %v, want ENOSYS", err)
	}
	if err := os.WriteFile(os.TempDir()+"/sedge-walls-test", []byte("x"), 0o600); !errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("a file was written: %v", err)
	}
	return nil
}

// stillWorks does what runners do.
func stillWorks() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("unix socketpair: %w", err)
	}
	unix.Close(fds[0])
	unix.Close(fds[1])
	out, err := exec.CommandContext(context.Background(), "/bin/sh", "-c", "unshare --user true 2>/dev/null || cat /proc/self/status").Output()
	if err != nil {
		return fmt.Errorf("start a program: %w", err)
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(out), want) {
			return fmt.Errorf("what it starts has no %q: %s", want, out)
		}
	}
	return nil
}

func TestAConfinedProcessReachesNothingBeyondItsWalls(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "confined").CombinedOutput()
	os.Remove(os.TempDir() + "/sedge-walls-test") // empty, if it was made
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTheFilterIsOneTheKernelTakes checks what cannot be seen from outside: that no
// jump leaves the program, and that every way ends in a result.
func TestTheFilterIsOneTheKernelTakes(t *testing.T) {
	code := program()
	if len(code) > 4096 {
		t.Errorf("it has %d instructions, the kernel takes 4096", len(code))
	}
	for i, c := range code {
		next := i + 1
		switch c.Code {
		case unix.BPF_RET | unix.BPF_K:
			continue
		case unix.BPF_JMP | unix.BPF_JA:
			next += int(c.K)
		default:
			next += int(max(c.Jt, c.Jf))
		}
		if next >= len(code) {
			t.Errorf("instruction %d leads out of the program", i)
		}
	}
	if last := code[len(code)-1]; last != result(allow) {
		t.Errorf("it ends in %+v", last)
	}
	if unsafe.Sizeof(code[0]) != 8 || syscall.SizeofSockFilter != 8 {
		t.Error("an instruction has not the kernel's size")
	}
}

package store_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A child is a test that runs in a process of its own: this program again, told
// by the environment that it is the child.
const childVariable = "STORE_TEST_CHILD"

// isChild reports whether this process is the child of the running test.
func isChild(t *testing.T) bool { return os.Getenv(childVariable) == t.Name() }

// child returns the command that runs the running test as a child, in dir.
func child(t *testing.T, dir string, with ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(self, "-test.run=^$").Run(); errors.Is(err, syscall.ENOEXEC) {
		t.Skip("this program is emulated and cannot start itself")
	}
	args := append(with, self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	cmd.Dir = dir
	return cmd
}

// inTmpfs runs the rest of the running test as a child, in a new tmpfs of the
// given size that only it sees. It returns false to the parent, whose test is
// over then.
func inTmpfs(t *testing.T, size string) (dir string, here bool) {
	t.Helper()
	if !isChild(t) {
		out, err := inMountNamespace(t, os.Getuid() != 0)
		if errors.Is(err, syscall.EPERM) && os.Getuid() == 0 {
			out, err = inMountNamespace(t, true) // root without the right to mount, as in a container
		}
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) { // the kernel's words for "not you" and "none at all"
			t.Skipf("no mount namespace can be had here: %v", err)
		}
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("in a tmpfs of %s: %v\n%s", size, err, out)
		}
		return "", false
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	return dir, true
}

// inMountNamespace runs the running test as a child that may mount, if need be
// since it is root in a user namespace of its own.
func inMountNamespace(t *testing.T, user bool) (out []byte, err error) {
	t.Helper()
	cmd := child(t, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if user {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}} // without a group no file can be made
	}
	return cmd.CombinedOutput()
}

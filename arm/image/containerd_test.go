package image

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// A containerd is a daemon of the test's own, which runs no containers.
type containerd struct{ ctr, socket string }

// startContainerd starts a daemon that ends with the test.
func startContainerd(t *testing.T) containerd {
	t.Helper()
	daemon, ctr := findContainerd(t)
	dir, err := os.MkdirTemp("", "ctd-") // t.TempDir's are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := containerd{ctr: ctr, socket: filepath.Join(dir, "containerd.sock")}
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
  uid = %d
  gid = %d
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket, os.Getuid(), os.Getgid())
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	var log bytes.Buffer
	cmd := exec.Command(daemon, "--config", file)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.LocalAddr().String())
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // the cleanup waits for it
		cmd.Wait()
		notify.Close()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	if said := await(notify); said != "READY=1" {
		cmd.Process.Kill()
		<-ended
		t.Fatalf("containerd says %q, want READY=1; its log:\n%s", said, log.Bytes())
	}
	return c
}

// await returns what a service says first, or why it says nothing.
func await(notify *net.UnixConn) string {
	notify.SetReadDeadline(time.Now().Add(time.Minute))
	said := make([]byte, 256)
	n, err := notify.Read(said)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(said[:n]))
}

// run returns what ctr prints.
func (c containerd) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(c.ctr, append([]string{"--address", c.socket, "--namespace", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// row returns the fields of the row that begins with the name, or nil.
func row(table, name string) []string {
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == name {
			return fields
		}
	}
	return nil
}

// findContainerd returns the paths of containerd and ctr: this machine's, else
// Debian's, unpacked into the user's cache, not installed: a package would start
// a service and might take the place of another.
func findContainerd(t *testing.T) (daemon, ctr string) {
	t.Helper()
	daemon, errDaemon := exec.LookPath("containerd")
	ctr, errCtr := exec.LookPath("ctr")
	if errDaemon == nil && errCtr == nil {
		return daemon, ctr
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "sedge-test", "containerd")
	if _, err := os.Stat(dir); err != nil {
		unpackDebian(t, "containerd", dir)
	}
	return filepath.Join(dir, "usr/bin/containerd"), filepath.Join(dir, "usr/bin/ctr")
}

// unpackDebian puts the files of a package below dir, all of them or none.
func unpackDebian(t *testing.T, name, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	run := func(args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s is not here and cannot be had: %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name)
	debs, err := filepath.Glob(filepath.Join(work, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("apt-get downloaded %q, %v, want one package", debs, err)
	}
	run("dpkg", "-x", debs[0], "files")
	if err := os.Rename(filepath.Join(work, "files"), dir); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}

func TestContainerdImportsAnArchive(t *testing.T) {
	c := startContainerd(t)
	type imported struct {
		name      string
		content   mutate.Appendable
		platforms []string
	}
	index := imported{"ghcr.io/sedge-iot/hello:all", all(t), nil}
	cases := []imported{}
	for _, p := range platforms {
		name := "ghcr.io/sedge-iot/hello:" + strings.ReplaceAll(p.want, "/", "-")
		cases = append(cases, imported{name, imageOf(t, open(t, p.want)), []string{p.want}})
		index.platforms = append(index.platforms, p.want)
	}
	for _, i := range append(cases, index) {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, archive(t, i.name, i.content), 0o644); err != nil {
			t.Fatal(err)
		}
		c.run(t, "images", "import", "--no-unpack", "--all-platforms", file)
		digest, err := i.content.Digest()
		if err != nil {
			t.Fatal(err)
		}
		// REF TYPE DIGEST SIZE UNIT PLATFORMS LABELS
		got := row(c.run(t, "images", "list"), i.name)
		if len(got) < 6 || got[2] != digest.String() {
			t.Fatalf("images list has %q for %s, want the digest %s", got, i.name, digest)
		}
		listed := strings.Split(got[5], ",")
		slices.Sort(listed)
		slices.Sort(i.platforms)
		if !slices.Equal(listed, i.platforms) {
			t.Errorf("%s is for %q, want %q", i.name, listed, i.platforms)
		}
		if got := c.run(t, "images", "check", "name=="+i.name); !strings.Contains(got, "complete") {
			t.Errorf("images check says of %s\n%s\nwant complete", i.name, got)
		}
	}
}

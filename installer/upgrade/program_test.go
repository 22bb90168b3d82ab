package upgrade_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

var (
	cycles = flag.Int("cycles", 20, "how often an upgrade is killed")
	seed   = flag.Uint64("seed", 0, "of what is random; 0 for another one each time")
)

// scratch is a folder for what the tests share: the programs.
var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(withScratch(m.Run))
}

func withScratch(run func() int) int {
	var err error
	if scratch, err = os.MkdirTemp("", "sedge-upgrade-"); err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(scratch)
	return run()
}

// A build is a version of testdata/program.
type build struct{ version, behaviour string }

var (
	builds   = map[build]string{} // where it is; guarded by building
	building sync.Mutex
)

// built returns the path of a build.
func built(t *testing.T, b build) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	if path := builds[b]; path != "" {
		return path
	}
	path := filepath.Join(scratch, b.version+"-"+b.behaviour)
	flags := fmt.Sprintf("-s -w -X main.version=%s -X main.behaviour=%s", b.version, b.behaviour)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", flags, "-o", path, "./testdata/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	builds[b] = path
	return path
}

// A vendor signs versions.
type vendor struct {
	key  minisign.PrivateKey
	file string // with the public key
}

func newVendor(t *testing.T) vendor {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.pub")
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	return vendor{private, file}
}

// offer signs content as a version for this platform.
func (v vendor) offer(t *testing.T, version string, content []byte) upgrade.Offer {
	t.Helper()
	sum := sha256.Sum256(content)
	return upgrade.Offer{
		Slot:      upgrade.Slot{Version: version, Digest: hex.EncodeToString(sum[:]), Size: int64(len(content))},
		Platform:  upgrade.Platform(),
		Signature: v.sign(t, upgrade.Comment("program", version, upgrade.Platform()), content),
	}
}

// sign returns a signature of content with a trusted comment.
func (v vendor) sign(t *testing.T, comment string, content []byte) string {
	t.Helper()
	r := minisign.NewReader(bytes.NewReader(content))
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	return string(r.SignWithComments(v.key, comment, "for a test"))
}

// release makes a folder as OFFER names it.
func (v vendor) release(t *testing.T, version string, content []byte) (dir string, slot upgrade.Slot) {
	t.Helper()
	o := v.offer(t, version, content)
	o.Downgrade = true
	dir = t.TempDir()
	text, err := json.Marshal(o)
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(dir, "offer.json"), text, 0o600), os.WriteFile(filepath.Join(dir, "program"), content, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, o.Slot
}

// A machine has the program installed, and whoever starts it does so again and again.
type machine struct {
	installed string
	command   []string // that starts it
	data      string
	keys      string
}

func newMachine(t *testing.T, v vendor) machine {
	t.Helper()
	installed := built(t, build{"v1.0.0", "good"})
	return machine{installed, []string{installed}, t.TempDir(), v.file}
}

// A process is a run of the program on a machine.
type process struct {
	cmd   *exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
	err   strings.Builder
}

// start starts what is installed, with an offer or "".
func (m machine) start(t *testing.T, offer string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(m.command[0], m.command[1:]...)}
	p.cmd.Env = append(os.Environ(), "DATA="+m.data, "KEYS="+m.keys, "OFFER="+offer)
	p.cmd.Stderr = &p.err
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.lines = in, bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// A word is what the program says.
type word struct{ what, version, behaviour string }

// next returns what the program says next; false: it has ended. A program that says
// nothing for a minute is stuck, and killed.
func (p *process) next() (w word, ok bool) {
	patience := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() })
	defer patience.Stop()
	if !p.lines.Scan() {
		return word{}, false
	}
	fmt.Sscan(p.lines.Text(), &w.what, &w.version, &w.behaviour)
	return w, true
}

// kill ends it as the kernel or a power cut does, if it has not ended.
func (p *process) kill() {
	p.cmd.Process.Kill()
	for p.lines.Scan() {
	}
	p.cmd.Wait()
}

// leave lets a healthy program end.
func (p *process) leave(t *testing.T) {
	t.Helper()
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v: %s", err, &p.err)
	}
}

// A tally is what came of a machine's starts.
type tally struct {
	healthy word
	boots   int // of versions that do not work
	starts  int
	said    []string
}

// hear notes what the program says, until it is healthy (true), or has ended or
// hangs and is killed for it.
func (y *tally) hear(p *process) bool {
	for {
		w, ok := p.next()
		if !ok {
			p.cmd.Wait() // how it ended is known then
			return false
		}
		y.said = append(y.said, w.what+" "+w.version)
		switch {
		case w.what == "healthy":
			y.healthy = w
			return true
		case w.what == "boot" && w.behaviour != "good":
			y.boots++
			if w.behaviour == "hang" {
				p.kill() // as a watchdog does
				return false
			}
		}
	}
}

// revive starts the machine's program, as often as it ends, until one is healthy, which
// it returns.
func (m machine) revive(t *testing.T, offer string, y *tally) *process {
	t.Helper()
	for range 2 * (upgrade.MaxBoots + 1) {
		y.starts++
		p := m.start(t, offer)
		if y.hear(p) {
			return p
		}
	}
	state, _ := os.ReadFile(filepath.Join(m.data, "versions", "state.json"))
	t.Fatalf("bricked: after %d starts no version is healthy: %q\n%s", y.starts, y.said, state)
	return nil
}

// file returns where the version of a slot is.
func (m machine) file(s upgrade.Slot) string {
	return filepath.Join(m.data, "versions", s.Version+"-"+s.Digest[:16], "program")
}

// report returns how things stand on a machine whose program does not run.
func (m machine) report(t *testing.T) map[string]any {
	t.Helper()
	var st map[string]any
	text, err := os.ReadFile(filepath.Join(m.data, "versions", "state.json"))
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// skipEmulated skips a test that starts programs where they cannot be started.
func skipEmulated(t *testing.T) {
	t.Helper()
	if err := exec.Command("/proc/self/exe", "-test.run=^$").Run(); errors.Is(err, syscall.ENOEXEC) || testing.Short() {
		t.Skip("builds and starts programs")
	}
}

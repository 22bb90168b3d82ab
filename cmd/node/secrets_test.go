package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sedge-iot/sedge/functions"
)

func TestASecretIsAFileOfTheFolder(t *testing.T) {
	data := t.TempDir()
	s, err := openSecrets(Options{DataDir: data})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(data, "secrets"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("the folder is %v, %v, want mode 0700", info, err)
	}
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	put("plain", "canary", 0o600)
	put("edited", "canary\n", 0o400)
	put("windows", "canary\r\n", 0o600)
	put("two-lines", "canary\n\n", 0o640)
	put("full", strings.Repeat("x", 64<<10), 0o600)
	// As Kubernetes does it: a folder for each version, and links to the current one.
	if err := os.Mkdir(filepath.Join(s.dir, "..v1"), 0o700); err != nil {
		t.Fatal(err)
	}
	put("..v1/linked", "canary", 0o600)
	for link, to := range map[string]string{"..data": "..v1", "linked": "..data/linked", "outside": "/etc/hostname"} {
		if err := os.Symlink(to, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"plain": "canary", "edited": "canary", "windows": "canary", "two-lines": "canary\n", "linked": "canary",
		"full": strings.Repeat("x", 64<<10),
	} {
		if got, err := s.read([]string{name}); err != nil || len(got) != 1 || got[name] != want {
			t.Errorf("secret %s is %.100q, %v, want %.100q", name, got, err, want)
		}
	}

	put("group-and-world", "canary", 0o644)
	put("world-writes", "canary", 0o602)
	put("empty", "\n", 0o600)
	put("large", strings.Repeat("canary", 64<<10), 0o600)
	put("binary", "canary\xff", 0o600)
	if err := os.Mkdir(filepath.Join(s.dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(s.dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"telegram-token":  "secret telegram-token is missing: write it to " + s.dir + "/telegram-token",
		"group-and-world": "is open to everyone on this machine: chmod 600 " + s.dir + "/group-and-world",
		"world-writes":    "is open to everyone",
		"empty":           "is empty: write it to " + s.dir + "/empty",
		"large":           "is larger than 64 KiB",
		"binary":          "is no text",
		"folder":          "is no file",
		"pipe":            "is no file",
		"outside":         "path escapes",
		"../secrets/full": "path escapes",
	} {
		got, err := s.read([]string{"plain", name})
		if lack, ok := errors.AsType[*functions.LackError](err); !ok || !strings.Contains(lack.What, want) || got != nil {
			t.Errorf("secret %s: %v, %v, want %q", name, got, err, want)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("secret %s is told: %v", name, err)
		}
	}
	if _, err := s.read([]string{"plain", "empty", "nowhere"}); !strings.Contains(err.Error(), "secret empty is empty") || !strings.Contains(err.Error(), "secret nowhere is missing") {
		t.Errorf("%v, want all that is lacking", err)
	}
	put("plain", "changed", 0o600)
	if got, err := s.read([]string{"plain"}); err != nil || got["plain"] != "changed" {
		t.Errorf("a changed secret is %q, %v, want the new one", got, err)
	}
}

func TestAFolderOfSecretsThatIsNotThereHasNone(t *testing.T) {
	s, err := openSecrets(Options{SecretsDir: filepath.Join(t.TempDir(), "later")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.read([]string{"token"}); err == nil || !strings.Contains(err.Error(), "secret token is missing: write it to "+s.dir) {
		t.Errorf("%v, want that it is missing", err)
	}
}

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// committed is when the tests' program was committed.
var committed = time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)

// platforms are those of the tests' programs, by what Go calls them.
var platforms = []struct{ goarch, goarm, want string }{
	{"amd64", "", "linux/amd64"},
	{"arm64", "", "linux/arm64"},
	{"arm", "7", "linux/arm/v7"},
}

// scratch is gone when all tests have ended.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "sedge-image-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// built returns a folder with a small program, released as v1.2.3, for each of
// the platforms: files named by them, their slashes as dashes.
func built(t *testing.T) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var build = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "hello")
	err := errors.Join(os.Mkdir(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.test/hello\n\ngo 1.26\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o644))
	if err != nil {
		return "", err
	}
	out := filepath.Join(scratch, "built")
	at := committed.Format(time.RFC3339)
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0", "GOOS=linux",
		"GIT_CONFIG_COUNT=0", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.test", "GIT_AUTHOR_DATE="+at,
		"GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.test", "GIT_COMMITTER_DATE="+at)
	run := func(env []string, args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = dir, env
		if said, e := cmd.CombinedOutput(); e != nil && err == nil {
			err = errors.New(strings.Join(args, " ") + ": " + e.Error() + "\n" + string(said))
		}
	}
	run(env, "git", "init", "-q")
	run(env, "git", "add", ".")
	run(env, "git", "commit", "-q", "-m", "hello")
	run(env, "git", "tag", "v1.2.3")
	for _, p := range platforms {
		run(append(env, "GOARCH="+p.goarch, "GOARM="+p.goarm), "go", "build", "-buildvcs=true", "-trimpath", "-ldflags=-s -w",
			"-o", filepath.Join(out, strings.ReplaceAll(p.want, "/", "-")), ".")
	}
	return out, err
})

// open returns the program for a platform.
func open(t *testing.T, platform string) Program {
	t.Helper()
	p, err := Open(filepath.Join(built(t), strings.ReplaceAll(platform, "/", "-")), "hello")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func imageOf(t *testing.T, p Program) v1.Image {
	t.Helper()
	img, err := p.Image()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// all returns the index of the images for all platforms.
func all(t *testing.T) v1.ImageIndex {
	t.Helper()
	var images []v1.Image
	for _, p := range platforms {
		images = append(images, imageOf(t, open(t, p.want)))
	}
	index, err := Index(images...)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func archive(t *testing.T, reference string, content mutate.Appendable) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteArchive(&b, reference, content); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAnImageSaysWhatItIs(t *testing.T) {
	for _, c := range platforms {
		t.Run(c.want, func(t *testing.T) {
			p := open(t, c.want)
			config, err := imageOf(t, p).ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if got := config.Platform().String(); got != c.want {
				t.Errorf("platform = %s, want %s", got, c.want)
			}
			if got := config.Config.User; got != "65532:65532" {
				t.Errorf("user = %s, want 65532:65532", got)
			}
			if got := strings.Join(config.Config.Entrypoint, " "); got != "/hello" {
				t.Errorf("entrypoint = %s, want /hello", got)
			}
			if !config.Created.Equal(committed) || !config.History[0].Created.Equal(committed) {
				t.Errorf("created %v, its layer %v, want both %v", config.Created, config.History[0].Created, committed)
			}
			want := map[string]string{
				"org.opencontainers.image.title":    "hello",
				"org.opencontainers.image.version":  "v1.2.3",
				"org.opencontainers.image.source":   "https://example.test/hello",
				"org.opencontainers.image.licenses": "Apache-2.0",
				"org.opencontainers.image.revision": p.Revision,
			}
			if got := config.Config.Labels; !maps.Equal(got, want) || len(p.Revision) != 40 {
				t.Errorf("labels = %q, want %q with a revision", got, want)
			}
		})
	}
}

func TestAnImageHoldsItsProgramAndAFolderForWhatPasses(t *testing.T) {
	p := open(t, "linux/arm64")
	layers, err := imageOf(t, p).Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v, want one", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	want := []tar.Header{
		{Name: "hello", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(p.File))},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
	}
	tr := tar.NewReader(content)
	for _, w := range want {
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != w.Name || h.Typeflag != w.Typeflag || h.Mode != w.Mode || h.Size != w.Size {
			t.Errorf("entry %s, type %c, mode %o, %d bytes, want %s, %c, %o, %d", h.Name, h.Typeflag, h.Mode, h.Size, w.Name, w.Typeflag, w.Mode, w.Size)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(committed) {
			t.Errorf("%s is of %d:%d %q at %v, want root's, %v", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime, committed)
		}
		if file, err := io.ReadAll(tr); w.Size > 0 && (err != nil || !bytes.Equal(file, p.File)) {
			t.Errorf("%s is not the program, %v", h.Name, err)
		}
	}
	if h, err := tr.Next(); err != io.EOF {
		t.Errorf("one entry more: %v, %v", h, err)
	}
}

func TestTheSameProgramsMakeTheSameArchive(t *testing.T) {
	first, second := archive(t, "x.test/hello:v1.2.3", all(t)), archive(t, "x.test/hello:v1.2.3", all(t))
	if !bytes.Equal(first, second) {
		t.Error("two archives of the same programs differ")
	}
	p := open(t, "linux/arm64")
	before, err := imageOf(t, p).Digest()
	if err != nil {
		t.Fatal(err)
	}
	p.Time = p.Time.Add(time.Second)
	if after, err := imageOf(t, p).Digest(); err != nil || after == before {
		t.Errorf("at another time the digest is %v, %v, want another than %v", after, err, before)
	}
}

func TestAnArchiveIsASoundLayout(t *testing.T) {
	index := all(t)
	tarred := archive(t, "x.test:5000/sedge/hello:v1.2.3", index)
	weight := 0
	for _, c := range platforms {
		weight += len(open(t, c.want).File)
	}
	if len(tarred) > weight {
		t.Errorf("the archive has %d bytes, the programs in it only %d: nothing is compressed", len(tarred), weight)
	}

	dir := t.TempDir()
	unpack(t, dir, tarred)
	laid, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(laid); err != nil {
		t.Error(err)
	}
	m, err := laid.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		t.Fatalf("index.json has %d entries, %v, want one", len(m.Manifests), err)
	}
	want, err := index.Digest()
	if err != nil || m.Manifests[0].Digest != want {
		t.Errorf("digest = %v, want %v, %v", m.Manifests[0].Digest, want, err)
	}
	names := map[string]string{
		"io.containerd.image.name":          "x.test:5000/sedge/hello:v1.2.3",
		"org.opencontainers.image.ref.name": "v1.2.3",
	}
	if got := m.Manifests[0].Annotations; !maps.Equal(got, names) {
		t.Errorf("names = %q, want %q", got, names)
	}
}

// unpack writes the files of an archive below dir.
func unpack(t *testing.T, dir string, archive []byte) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(tr)
		path := filepath.Join(dir, h.Name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, file, h.FileInfo().Mode())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImagesOfDifferentBuildsMakeNoIndex(t *testing.T) {
	amd64, arm64 := open(t, "linux/amd64"), open(t, "linux/arm64")
	arm64.Version = "v1.2.2"
	_, err := Index(imageOf(t, amd64), imageOf(t, arm64))
	if err == nil || !strings.Contains(err.Error(), "for linux/arm64 it is hello v1.2.2") {
		t.Errorf("Index of two versions = %v, want an error that names them", err)
	}
	if _, err := Index(imageOf(t, amd64), imageOf(t, amd64)); err == nil || !strings.Contains(err.Error(), "two images for linux/amd64") {
		t.Errorf("Index of one platform twice = %v, want an error that names it", err)
	}
	if _, err := Index(); err == nil {
		t.Error("Index of nothing = nil, want an error")
	}
}

func TestAFileThatCannotStandAloneIsRefused(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	huge := filepath.Join(dir, "huge")
	if err := errors.Join(os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755), os.WriteFile(huge, nil, 0o755), os.Truncate(huge, MaxProgram+1)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, want string }{
		{script, "not a program for Linux"},
		{huge, "larger than a program may be, 128 MiB"},
		{"/bin/sh", "linked dynamically"},
	} {
		if _, err := Open(c.file, "x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%s) = %v, want %q in it", c.file, err, c.want)
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of no file = %v, want fs.ErrNotExist", err)
	}
}

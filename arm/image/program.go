package image

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// MaxProgram is the most that a program may weigh, in bytes.
const MaxProgram = 128 << 20

// A Program is the one file of an image and what its image says of it. Open
// fills all of it from the file.
type Program struct {
	Name     string // of the file in the image's root, and the image's title
	File     []byte // the executable, not changed
	Platform v1.Platform
	Version  string    // v1.2.3, or what Go makes up between two releases
	Revision string    // the commit, or "" if it was built outside of version control
	Source   string    // the address of the repository
	Time     time.Time // of the commit, else 1970; every time in the image
}

// Open reads a program that was built by Go for Linux and stands on its own, and
// takes from it what it was built for and from. The name is up to the caller.
func Open(path, name string) (Program, error) {
	file, err := read(path)
	if err != nil {
		return Program{}, err
	}
	if err := static(file); err != nil {
		return Program{}, fmt.Errorf("read %s: %w", path, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(file))
	if err != nil {
		return Program{}, fmt.Errorf("read %s: %w", path, err)
	}
	p, err := describe(info)
	if err != nil {
		return Program{}, fmt.Errorf("read %s: %w", path, err)
	}
	p.Name, p.File = name, file
	return p, nil
}

// read returns the file whole, if it is no larger than a program may be.
func read(path string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, MaxProgram+1))
	if err == nil && len(file) > MaxProgram {
		err = fmt.Errorf("read %s: larger than a program may be, %d MiB", path, MaxProgram>>20)
	}
	return file, err
}

// static fails for a program that needs a loader: an image of it alone would not
// start, and say only "no such file or directory".
func static(file []byte) error {
	exe, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return fmt.Errorf("not a program for Linux: %w", err)
	}
	for _, part := range exe.Progs {
		if part.Type == elf.PT_INTERP {
			return errors.New("linked dynamically, and an image has no libraries: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// describe takes from Go's notes what an image says of its program.
func describe(info *debug.BuildInfo) (Program, error) {
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if set["GOOS"] != "linux" {
		return Program{}, fmt.Errorf("built for %s, not for linux", set["GOOS"])
	}
	p := Program{
		Platform: v1.Platform{OS: "linux", Architecture: set["GOARCH"]},
		Version:  info.Main.Version,
		Revision: set["vcs.revision"],
		Source:   "https://" + info.Main.Path,
		Time:     time.Unix(0, 0).UTC(),
	}
	if set["GOARCH"] == "arm" {
		level, _, _ := strings.Cut(set["GOARM"], ",") // "7", or "7,softfloat"
		p.Platform.Variant = "v" + level
	}
	if at := set["vcs.time"]; at != "" {
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return Program{}, fmt.Errorf("time of the commit: %w", err)
		}
		p.Time = t.UTC()
	}
	return p, nil
}

// Command images packs the agents in a folder, which make cross put there, into
// archives of images beside them: one for each platform that k3s runs on, and one
// with all. It is a tool of this repository and goes to no one's machine.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/sedge-iot/sedge/arm"
	"github.com/sedge-iot/sedge/arm/image"
)

// boards are what k3s runs on: not arm/v6.
var boards = []string{"amd64", "arm64", "armv7"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: images DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run packs what is in dir. An epoch, in seconds since 1970, takes the place of
// the time of the commit.
func run(dir, epoch string) error {
	var images []v1.Image
	var reference string
	for _, board := range boards {
		p, err := open(filepath.Join(dir, "sedge-agent-linux-"+board), epoch)
		if err != nil {
			return err
		}
		img, err := p.Image()
		if err != nil {
			return err
		}
		images, reference = append(images, img), arm.AgentReference(p.Version)
	}
	all, err := image.Index(images...)
	if err != nil {
		return fmt.Errorf("%w: run make cross again", err)
	}
	fmt.Println(reference)
	for i, img := range images {
		if err := write(filepath.Join(dir, "sedge-agent-image-linux-"+boards[i]+".tar"), reference, img); err != nil {
			return err
		}
	}
	return write(filepath.Join(dir, "sedge-agent-image.tar"), reference, all)
}

func open(file, epoch string) (image.Program, error) {
	p, err := image.Open(file, "sedge-agent")
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("%w: run make cross first", err)
	}
	if err != nil || epoch == "" {
		return p, err
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return p, fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	p.Time = time.Unix(seconds, 0).UTC()
	return p, nil
}

// write puts an archive in the place of the file and tells its digest.
func write(file, reference string, content mutate.Appendable) error {
	digest, err := content.Digest()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".image-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which finds nothing once it is renamed
	if err := errors.Join(image.WriteArchive(f, reference, content), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	fmt.Println(digest, file)
	return nil
}

package image

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteArchive writes an image, or an index of images, as an OCI layout in a tar,
// under the full name, tag included, that an import gives it. The same content
// makes the same bytes. It needs as much room again below os.TempDir meanwhile.
func WriteArchive(w io.Writer, reference string, content mutate.Appendable) error {
	dir, err := os.MkdirTemp("", "sedge-image-")
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer os.RemoveAll(dir)
	if _, err := layout.Write(dir, named(reference, content)); err != nil {
		return fmt.Errorf("write archive: lay out: %w", err)
	}
	tw := tar.NewWriter(w)
	if err := addFiles(tw, os.DirFS(dir)); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// named returns the index of a layout that holds content alone. containerd takes
// the whole name from the first annotation; the second is the standard's, where a
// tag is what other tools look for.
func named(reference string, content mutate.Appendable) v1.ImageIndex {
	_, tag, _ := strings.Cut(reference[strings.LastIndex(reference, "/")+1:], ":")
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: content,
		Descriptor: v1.Descriptor{Annotations: map[string]string{
			"io.containerd.image.name":          reference,
			"org.opencontainers.image.ref.name": tag,
		}},
	})
}

// addFiles copies all files below root in lexical order, keeping of their
// properties nothing but name and size.
func addFiles(tw *tar.Writer, root fs.FS) error {
	return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}); err != nil {
			return err
		}
		_, err = io.Copy(tw, f)
		return err
	})
}

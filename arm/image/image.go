// Package image makes container images without a container daemon: of one static
// program each, for one platform or for several under one name, as archives that
// "ctr images import" and the air-gap folder of k3s take. It pushes nothing and
// signs nothing.
//
// An image is a function of its program alone: the same file gives the same
// digest, on any machine, as long as it is the same Go that compresses it. Nothing
// in it is writable by the user that it runs as, but /tmp.
//
// What is not in it: time zones, which are in the program; certificate
// authorities, which would age in it (a broker at home has one of its own, handed
// over in a file; who needs the public ones mounts /etc/ssl/certs of the node); a
// passwd file, which nothing asks for, since the user is a number.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User is who a program runs as unless its pod says otherwise. It is a number, so
// that Kubernetes can see that it is not root, and names a group, which would
// otherwise be root's.
const User = "65532:65532"

const license = "Apache-2.0"

// Labels by which an image says of which build it is.
const (
	titleLabel    = "org.opencontainers.image.title"
	versionLabel  = "org.opencontainers.image.version"
	revisionLabel = "org.opencontainers.image.revision"
)

// Image returns the image of the program. Safe for concurrent use.
func (p Program) Image() (v1.Image, error) {
	layer, err := p.layer()
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", p.Name, err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	base, err = mutate.ConfigFile(base, &v1.ConfigFile{
		OS:           p.Platform.OS,
		Architecture: p.Platform.Architecture,
		Variant:      p.Platform.Variant,
		Created:      v1.Time{Time: p.Time},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       User,
			Entrypoint: []string{"/" + p.Name},
			WorkingDir: "/",
			Labels:     p.labels(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", p.Name, err)
	}
	history := v1.History{Created: v1.Time{Time: p.Time}, CreatedBy: p.Name + " " + p.Version}
	return mutate.Append(base, mutate.Addendum{Layer: layer, History: history})
}

// Index returns the images of one program for several platforms as one. It fails
// when they are not of one build, which is what forgetting to build one of the
// programs anew looks like.
func Index(images ...v1.Image) (v1.ImageIndex, error) {
	if len(images) == 0 {
		return nil, errors.New("index: no images")
	}
	index, seen, build := mutate.IndexMediaType(empty.Index, types.OCIImageIndex), map[string]bool{}, ""
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		platform, labels := config.Platform(), config.Config.Labels
		mine := strings.TrimSpace(labels[titleLabel] + " " + labels[versionLabel] + " " + labels[revisionLabel])
		if build != "" && mine != build {
			return nil, fmt.Errorf("index: for %s it is %s, for another platform %s", platform, mine, build)
		}
		if seen[platform.String()] {
			return nil, fmt.Errorf("index: two images for %s", platform)
		}
		build, seen[platform.String()] = mine, true
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index, nil
}

func (p Program) labels() map[string]string {
	labels := map[string]string{
		titleLabel:                          p.Name,
		versionLabel:                        p.Version,
		"org.opencontainers.image.source":   p.Source,
		"org.opencontainers.image.licenses": license,
	}
	if p.Revision != "" {
		labels[revisionLabel] = p.Revision
	}
	return labels
}

// layer returns the image's only layer: the program, and a folder for what is
// passing. All of it belongs to root.
func (p Program) layer() (v1.Layer, error) {
	entries := []tar.Header{
		{Name: p.Name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(p.File)), ModTime: p.Time},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: p.Time},
	}
	slices.SortFunc(entries, func(a, b tar.Header) int { return strings.Compare(a.Name, b.Name) })
	var content bytes.Buffer
	tw := tar.NewWriter(&content)
	for _, h := range entries {
		if err := tw.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := tw.Write(p.File); err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	return tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
}

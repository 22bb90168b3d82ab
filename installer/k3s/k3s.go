// Package k3s holds what puts sedge on a k3s cluster: the manifests that kubectl
// and k3s's own folder take, the Helm chart behind them, and the HelmChart
// resource by which k3s installs the chart without the internet.
//
// Of these the chart is written by hand; sedge.yaml is the chart rendered with
// its own values, and the schema of the Function resource is made of the
// manifest's. The tests compare, and write them anew with -update.
package k3s

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"strings"
)

// Files holds sedge.yaml, sample.yaml and the folder chart.
//
//go:embed sedge.yaml sample.yaml chart
var Files embed.FS

const helmChart = `# sedge as a chart that k3s installs and upgrades by itself:
# put this file into /var/lib/rancher/k3s/server/manifests.
apiVersion: helm.cattle.io/v1
kind: HelmChart
metadata:
  name: sedge
  namespace: kube-system
spec:
  # Every object names its own namespace; here only the release is noted.
  targetNamespace: kube-system
  # What chart/values.yaml holds can be set here, such as the broker's URL:
  # valuesContent: |
  #   mqtt: {url: "mqtt://192.168.1.10:1883"}
  chartContent: %s
`

// HelmChart returns the HelmChart resource (helm.cattle.io/v1) with the whole
// chart in it. Equal charts give equal bytes.
func HelmChart() ([]byte, error) {
	archive, err := Archive()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, helmChart, base64.StdEncoding.EncodeToString(archive)), nil
}

// Archive returns the chart as helm packs it: a tar of the folder sedge, gzipped.
func Archive() ([]byte, error) {
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	files := tar.NewWriter(packed)
	err := fs.WalkDir(Files, "chart", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := Files.ReadFile(name)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: "sedge" + strings.TrimPrefix(name, "chart"), Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR}
		if err := files.WriteHeader(h); err != nil {
			return err
		}
		_, err = files.Write(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pack chart: %w", err)
	}
	if err := files.Close(); err != nil {
		return nil, fmt.Errorf("pack chart: %w", err)
	}
	if err := packed.Close(); err != nil {
		return nil, fmt.Errorf("pack chart: %w", err)
	}
	return b.Bytes(), nil
}

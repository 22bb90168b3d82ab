// Command helmchart prints the HelmChart resource by which k3s installs sedge.
package main

import (
	"fmt"
	"os"

	"github.com/sedge-iot/sedge/installer/k3s"
)

func main() {
	text, err := k3s.HelmChart()
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

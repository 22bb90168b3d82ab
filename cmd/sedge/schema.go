package main

import (
	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/functions"
)

func newSchema(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of manifests",
		Long: `Print the JSON schema of manifests, which teaches an editor to complete and check
them. A manifest names it in its first line:

  # yaml-language-server: $schema=function.schema.json`,
		Example: `  sedge schema > function.schema.json`,
		RunE: func(*cobra.Command, []string) error {
			_, err := sh.out.Write(functions.Schema())
			return err
		},
	}
}

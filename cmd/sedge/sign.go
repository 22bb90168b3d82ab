package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/functions"
)

func newDigest(sh *shell) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "digest",
		Short: "Print the digest of a function, to be signed",
		Long: `Print the digest of a function: a line that stands for its manifest and all of its
code, as sedge deploy would send them. Signed with minisign it lets the function run
on nodes whose owner demands signatures (sedge-agent --operator-keys FILE), whoever
has the hub. No hub is asked, so sign where the key is. After a change of manifest or
code, sign again.`,
		Example: `  minisign -G -p operator.pub -s operator.key      # once; operator.pub goes to the nodes
  sedge digest -f night-light > night-light.txt
  minisign -S -s operator.key -m night-light.txt   # writes night-light.txt.minisig
  sedge deploy -f night-light --signature night-light.txt.minisig`,
		RunE: func(*cobra.Command, []string) error {
			all, err := sh.sources(files)
			if err != nil {
				return err
			}
			if len(all) != 1 {
				return wrongUsage("name one: sedge digest -f FILE", "%d functions are named, and each has a signature of its own", len(all))
			}
			fmt.Fprint(sh.out, member.SignedText(all[0].Name(), all[0].Revision))
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "`FILE`: a manifest, a folder with one, or - for stdin")
	return cmd
}

// signature returns what is in the file of --signature, as it is sent.
func (o deployOptions) signature(all []functions.Function) (string, error) {
	if o.signed == "" {
		return "", nil
	}
	if len(all) != 1 {
		return "", wrongUsage("deploy one after the other: sedge deploy -f FILE --signature FILE.minisig", "--signature is of one function, and %d are named", len(all))
	}
	file, err := settings.Read(o.signed)
	if err != nil {
		return "", wrongUsage("minisign -S makes it of what sedge digest prints", "--signature: %s", err)
	}
	packed, err := member.PackSignature(file)
	if err != nil {
		return "", wrongUsage("minisign -S makes it of what sedge digest prints", "--signature: %s: %s", o.signed, err)
	}
	return packed, nil
}

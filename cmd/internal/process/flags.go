package process

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"seralm/config"
)

const configFlag = "config"

// ConfigFlag adds --config.
func ConfigFlag(f *pflag.FlagSet) {
	f.StringP(configFlag, "c", os.Getenv("SERALM_CONFIG"), "configuration file (also SERALM_CONFIG); none = the defaults")
}

// Load reads the configuration that the command line names.
func Load(cmd *cobra.Command) (config.Config, error) {
	path, err := cmd.Flags().GetString(configFlag)
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(path, os.Environ())
}

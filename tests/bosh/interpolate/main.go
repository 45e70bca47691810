// Applies ops files to a manifest with the library that `bosh interpolate` uses.
//
//	interpolate MANIFEST OPS...
package main

import (
	"fmt"
	"os"

	"github.com/cppforlife/go-patch/patch"
	"gopkg.in/yaml.v2"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(path string, into interface{}) {
	data, err := os.ReadFile(path)
	check(err)
	check(yaml.Unmarshal(data, into))
}

func main() {
	var document interface{}
	read(os.Args[1], &document)
	for _, path := range os.Args[2:] {
		var definitions []patch.OpDefinition
		read(path, &definitions)
		ops, err := patch.NewOpsFromDefinitions(definitions)
		check(err)
		document, err = ops.Apply(document)
		check(err)
	}
	data, err := yaml.Marshal(document)
	check(err)
	_, err = os.Stdout.Write(data)
	check(err)
}

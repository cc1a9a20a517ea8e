// The Kubernetes resource plugin, release 4.25.0, served from its published Go module.
package main

import "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"

func main() {
	provider.Serve("kubernetes", "4.25.0", []byte("{}"), []byte("{}"))
}

"""DNA sequence as numbers: windows around genes, encoders behind one interface, and features of genes and elements."""

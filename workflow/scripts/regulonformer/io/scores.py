"""Words in tables of scores on which those who write them and those who show them agree."""

# End of datasets in which the change in a donor is predicted from that in other donors: a question of its own, with
# methods that saw more.
FROM_OTHERS = ", from other donors"

"""The stream side: raw topics in, conformed topics out, on Faust."""
